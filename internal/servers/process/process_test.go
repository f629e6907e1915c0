package process_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/process"
)

// parentVar makes this test binary the parent that a test kills: it starts a
// child in the folder that the variable names, says so, and sleeps.
const parentVar = "DOORSTEP_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVar); dir != "" {
		beParent(dir)
		return
	}
	os.Exit(m.Run())
}

func beParent(parent string) {
	dir, err := process.NewDir(parent, "orphan-")
	if err != nil {
		panic(err)
	}
	process, err := process.Start(exec.Command("sleep", "60"))
	if err != nil {
		panic(err)
	}
	// Threads come and go in a real program; none of it may end the child.
	for range 20 {
		go func() { runtime.LockOSThread(); runtime.Gosched() }() // ends its thread
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(process.OS().Pid) + " " + dir.Path() + "\n")
	time.Sleep(time.Minute)
}

func TestChildDiesWithParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child's life to its parent's")
	}
	temp := t.TempDir()
	pid, dir := killedParent(t, temp)

	require.Eventually(t, func() bool { return gone(pid) }, 10*time.Second, time.Millisecond, "child %d outlived its parent", pid)

	// The folder is left. A fresh one is not removed yet ...
	fresh, err := process.NewDir(temp, "orphan-")
	require.NoError(t, err)
	require.NoError(t, fresh.Remove())
	require.DirExists(t, dir)
	// ... and a minute later it is an orphan.
	age(t, dir)
	next, err := process.NewDir(temp, "orphan-")
	require.NoError(t, err)
	assert.NoDirExists(t, dir)
	assert.NoError(t, next.Remove())
}

func TestNewDir(t *testing.T) {
	t.Parallel()

	t.Run("keeps a living maker's folder", func(t *testing.T) {
		t.Parallel()
		temp := t.TempDir()
		mine, err := process.NewDir(temp, "x-")
		require.NoError(t, err)
		age(t, mine.Path())
		other, err := process.NewDir(temp, "x-")
		require.NoError(t, err)
		assert.DirExists(t, mine.Path())
		assert.NoError(t, mine.Remove())
		assert.NoError(t, mine.Remove(), "twice")
		assert.NoDirExists(t, mine.Path())
		assert.NoError(t, other.Remove())
	})
}

// killedParent starts this binary as a parent, kills it with SIGKILL and
// returns its child's id and its folder.
func killedParent(t *testing.T, temp string) (pid int, dir string) {
	t.Helper()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentVar+"="+temp)
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	word, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err = strconv.Atoi(word)
	require.NoError(t, err)

	require.False(t, gone(pid), "the child must live as long as its parent does")
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // "signal: killed"
	return pid, dir
}

// gone takes a zombie for gone: the process that inherits orphans may reap them
// late, or never (in a container without an init).
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func age(t *testing.T, dir string) {
	t.Helper()
	then := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(dir, then, then))
}
