package process

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// killWait bounds how long Kill waits until a killed child is gone. The kernel
// needs microseconds.
const killWait = 5 * time.Second

// Process is a running child. Safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read it after done is closed
}

// Start starts cmd in a process group of its own, so that a Ctrl-C in the
// terminal reaches only this process, which can then end its children in order.
// On Linux the child is killed when this process dies; elsewhere only Kill ends
// it. cmd must not have been started, and nobody else may wait for it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run forks and waits on one thread: the kernel's parent-death signal is tied to
// the thread that forked, not to the process, and Go may end a thread at any time.
// The goroutine therefore keeps its thread for as long as the child lives.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)

	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Setpgid = true
	dieWithParent(p.cmd.SysProcAttr)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// OS is the child as the operating system's process, for its id and for signals.
func (p *Process) OS() *os.Process { return p.cmd.Process }

// Done is closed once the child is gone and has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the child ended: nil is exit code 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Kill ends the child with SIGKILL, which also ends a stopped one, and waits
// until it is gone, 5 s at most. Killing a dead child is not an error.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(killWait):
		return errors.New("process: killed, but still there after 5 s")
	}
}
