package drive

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram is an HdrHistogram of microseconds, 1 µs to 2 minutes at three
// digits.
type Histogram = hdrhistogram.Histogram

// NewHistogram makes an empty one.
func NewHistogram() *Histogram { return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 3) }

// latency is a histogram of the whole run and one of the current second. Safe
// for concurrent use.
type latency struct {
	mu            sync.Mutex
	whole, second *Histogram
}

func newLatency() *latency { return &latency{whole: NewHistogram(), second: NewHistogram()} }

// record takes a duration; one that is out of range counts as the nearest that
// is in range.
func (l *latency) record(d time.Duration) {
	us := min(max(d.Microseconds(), 1), l.whole.HighestTrackableValue())
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.whole.RecordValue(us) // in range
	_ = l.second.RecordValue(us)
}

// next returns the second's 99th percentile and begins a new second.
func (l *latency) next() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	p99 := time.Duration(l.second.ValueAtQuantile(99)) * time.Microsecond
	l.second.Reset()
	return p99
}

func (l *latency) encode() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whole.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}
