package rig

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Usage is the resources that a process has used so far.
type Usage struct {
	CPU     time.Duration // user and system, of all its threads
	RSS     int64         // bytes
	PeakRSS int64         // bytes
	Threads int
	FDs     int
}

// clockTick is the kernel's unit of CPU time in /proc: 10 ms on every Linux that Go
// runs on.
const clockTick = 10 * time.Millisecond

// UsageOf reads /proc. Linux only.
func UsageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("rig: %w", err)
	}
	// The second field, a name in brackets, may hold anything; field 3 follows it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var u Usage
	if len(fields) < 20 {
		return u, fmt.Errorf("rig: /proc/%d/stat has %d fields", pid, len(fields))
	}
	u.CPU = time.Duration(number(fields[11])+number(fields[12])) * clockTick
	u.Threads = int(number(fields[17]))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("rig: %w", err)
	}
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "VmRSS":
			u.RSS = kilobytes(value)
		case "VmHWM":
			u.PeakRSS = kilobytes(value)
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.FDs = len(fds)
	if err != nil {
		return u, fmt.Errorf("rig: %w", err)
	}
	return u, nil
}

func kilobytes(value []byte) int64 {
	if f := bytes.Fields(value); len(f) == 2 {
		return number(f[0]) << 10
	}
	return 0
}

func number(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}
