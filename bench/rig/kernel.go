package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// KernelMemory is what the kernel uses for everything that runs on the machine, in
// bytes.
type KernelMemory struct {
	Slab   int64 // its objects: sockets, files, poll entries
	Socket int64 // the buffers of TCP
}

// KernelMemoryNow reads /proc. Linux only.
func KernelMemoryNow() (KernelMemory, error) {
	info, err := os.ReadFile("/proc/meminfo")
	stat, failed := os.ReadFile("/proc/net/sockstat")
	if err := errors.Join(err, failed); err != nil {
		return KernelMemory{}, fmt.Errorf("rig: %w", err)
	}
	var k KernelMemory
	for line := range bytes.Lines(info) {
		if value, ok := bytes.CutPrefix(line, []byte("Slab:")); ok {
			k.Slab = kilobytes(value)
		}
	}
	for line := range bytes.Lines(stat) {
		// TCP: inuse 9 orphan 0 tw 0 alloc 10 mem 1
		if fields := bytes.Fields(line); len(fields) > 0 && string(fields[0]) == "TCP:" {
			k.Socket = number(fields[len(fields)-1]) * int64(os.Getpagesize())
		}
	}
	return k, nil
}
