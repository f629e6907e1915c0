package postgrestest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processes are the server's own process and its children, one for each
// connection and some more. They are not one process group, because each of them
// is a session of its own.
func (s *Server) processes() []int {
	pid := s.process.OS().Pid
	return append(childrenOf(pid), pid)
}

// signalAll signals all of the server's processes.
func (s *Server) signalAll(signal syscall.Signal) error {
	if signal == syscall.SIGSTOP {
		// The parent first, so that it forks no more children while they are listed.
		if err := ignoreGone(s.process.OS().Signal(signal)); err != nil {
			return err
		}
	}
	return signalEach(s.processes(), signal)
}

// killAll kills all of the server's processes and waits until they are gone. A
// child notices its parent's death only when it is idle, and while one lives no
// other server can start on the same data.
func (s *Server) killAll() error {
	err := s.signalAll(syscall.SIGSTOP)
	pids := s.processes()
	err = errors.Join(err, signalEach(pids, syscall.SIGKILL), s.process.Kill())
	for deadline := time.Now().Add(stopWait); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !slices.ContainsFunc(pids, alive) {
			return err
		}
	}
	return errors.Join(err, errors.New("postgrestest: killed, but still there after 5 s"))
}

func signalEach(pids []int, signal syscall.Signal) (err error) {
	for _, pid := range pids {
		err = errors.Join(err, ignoreGone(syscall.Kill(pid, signal)))
	}
	return err
}

// alive takes a zombie for dead: it holds nothing any more, and the process that
// inherits orphans may be slow to reap them.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, ok := readStat("/proc/" + strconv.Itoa(pid) + "/stat")
	return !ok || stat.state != "Z"
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// childrenOf reads /proc. On systems without it, it finds none: there a pause
// stops new connections only.
func childrenOf(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	var pids []int
	for _, path := range stats {
		if stat, ok := readStat(path); ok && stat.parent == parent {
			pids = append(pids, stat.pid)
		}
	}
	return pids
}

type stat struct {
	pid, parent int
	state       string
}

// readStat reads "pid (name) state parent ...", where name may hold anything.
func readStat(path string) (stat, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return stat{}, false // gone since the listing
	}
	line := string(text)
	first, _, _ := strings.Cut(line, " ")
	rest := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(rest) < 2 {
		return stat{}, false
	}
	pid, errPID := strconv.Atoi(first)
	parent, errParent := strconv.Atoi(rest[1])
	return stat{pid: pid, parent: parent, state: rest[0]}, errPID == nil && errParent == nil
}
