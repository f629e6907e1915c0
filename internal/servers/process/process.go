package process

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// killWait bounds how long Kill waits for a killed child to be gone. The
// kernel needs microseconds; a second is a machine in deep trouble.
const killWait = 5 * time.Second

// Process is a running child. Safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // what Wait said; read it after done is closed
}

// Start starts cmd in a process group of its own, so that a Ctrl-C in the
// terminal reaches this process alone and it can end in its own order. On
// Linux the child is killed when this process dies; elsewhere only Kill ends
// it. Cmd must not have been started, and must not be waited for by others.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run forks and stays: the kernel's parent-death signal is tied to the thread
// that forked, not to the process, and Go ends threads as it likes. The
// goroutine therefore keeps its thread for as long as the child lives.
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

// OS is the child as the operating system's process: for its id and for
// signals (a SIGSTOP is the best stall injector there is).
func (p *Process) OS() *os.Process { return p.cmd.Process }

// Done is closed once the child is gone and has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended: nil is exit code 0. It waits for the end.
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
		return errors.New("child: killed, but still there after 5 s")
	}
}
