package demo

import (
	"io"
	"os"
	"syscall"
	"unsafe"
)

// terminal is a terminal that can be drawn on.
type terminal struct{ *os.File }

// terminalOf says whether out is one: a character device that knows its size,
// and not a dumb one.
func terminalOf(out io.Writer) (terminal, bool) {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return terminal{}, false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return terminal{}, false
	}
	_, _, ok = terminal{file}.size()
	return terminal{file}, ok
}

// size asks the kernel, which costs a microsecond: often enough to ask before
// every frame, so that no signal has to be caught. False where there is none.
func (t terminal) size() (columns, rows int, ok bool) {
	var window struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, t.Fd(), syscall.TIOCGWINSZ,
		uintptr(unsafe.Pointer(&window))) //nolint:gosec // the kernel fills the struct; golang.org/x/term would be a dependency for this line
	return int(window.columns), int(window.rows), errno == 0 && window.columns > 0 && window.rows > 0
}
