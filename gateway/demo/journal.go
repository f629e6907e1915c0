package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// journal writes what happens, a line each: to a log file, to a terminal that
// is not drawn on, and to the last lines of one that is. A coordinate, a token
// or a code of four digits is never in it. Safe for concurrent use.
type journal struct {
	began time.Time

	mu     sync.Mutex
	to     []io.Writer
	recent []string
	failed error // of the first write that failed
}

const recentLines = 4

func newJournal(to ...io.Writer) *journal { return &journal{began: time.Now(), to: to} }

// sayf writes one line about one journey, or about all with an empty name.
func (j *journal) sayf(name, format string, args ...any) {
	line := fmt.Sprintf("%8.2fs  %s", time.Since(j.began).Seconds(), strings.TrimSpace(fmt.Sprintf("%-30s ", name)+fmt.Sprintf(format, args...)))
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, w := range j.to {
		if _, err := io.WriteString(w, line+"\n"); err != nil && j.failed == nil {
			j.failed = fmt.Errorf("log: %w", err)
		}
	}
	j.recent = append(j.recent, line)
	j.recent = j.recent[max(0, len(j.recent)-recentLines):]
}

// Write takes the service's own log lines.
func (j *journal) Write(text []byte) (int, error) {
	j.sayf("service", "%s", strings.TrimSpace(string(text)))
	return len(text), nil
}

// last is the last few lines, oldest first, and the first error of a write.
func (j *journal) last() ([]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.recent), j.failed
}
