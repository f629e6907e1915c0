package main

import (
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTimerSlack_of_every_thread(t *testing.T) {
	t.Parallel()
	const threads, getTimerSlack = 8, 30 // PR_GET_TIMERSLACK
	var at sync.WaitGroup
	at.Add(threads)
	var over sync.WaitGroup
	for range threads {
		over.Go(func() {
			runtime.LockOSThread() // and not unlocked: the thread ends with its goroutine
			at.Done()
			at.Wait()
			slack, _, err := syscall.RawSyscall(syscall.SYS_PRCTL, getTimerSlack, 0, 0)
			assert.Zero(t, err)
			assert.EqualValues(t, 1_000_000, slack)
		})
	}
	over.Wait()
}
