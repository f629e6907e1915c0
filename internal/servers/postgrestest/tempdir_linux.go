package postgrestest

import (
	"os"
	"syscall"
)

const (
	memoryDir  = "/dev/shm"
	tmpfsMagic = 0x01021994 // TMPFS_MAGIC of linux/magic.h
	// roomBytes is room for several test binaries at once: a server takes 40 MB, a
	// database 7.5 MB, and then there is the WAL. A container's default of 64 MB is
	// too small.
	roomBytes = 2 << 30
)

// tempDir prefers memory to disk: a database takes 13 ms there, and 30 to 350 ms
// on ext4, depending on where its blocks lie. A TMPDIR that is set wins.
func tempDir() string {
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") == "" && syscall.Statfs(memoryDir, &fs) == nil &&
		fs.Type == tmpfsMagic && fs.Bavail*uint64(fs.Bsize) >= roomBytes {
		return memoryDir
	}
	return os.TempDir()
}
