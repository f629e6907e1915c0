//go:build !linux

package process

import "syscall"

// Only Linux can tie a child's life to its parent's.
func dieWithParent(*syscall.SysProcAttr) {}
