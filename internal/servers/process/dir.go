package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockName is the file in every Dir that its maker keeps locked. The kernel
// releases the lock when the maker dies, so a folder whose lock is free is an
// orphan. A process id in the name would fail once the id is used again.
const lockName = ".alive"

// orphanAge protects a folder whose maker has not locked it yet.
const orphanAge = time.Minute

// Dir is a temporary folder of this process.
type Dir struct {
	path string
	lock *os.File
}

// NewDir makes a folder named prefix + a random number in parent, mode 0700.
// It first removes folders of that prefix whose makers were killed.
func NewDir(parent, prefix string) (*Dir, error) {
	removeOrphans(parent, prefix)
	path, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return nil, err
	}
	lock, err := acquire(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), os.RemoveAll(path))
	}
	return &Dir{path: path, lock: lock}, nil
}

// Path is the folder's absolute path, if parent was absolute.
func (d *Dir) Path() string { return d.path }

// Remove deletes the folder and all in it. Idempotent.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.path)
	if closing := d.lock.Close(); !errors.Is(closing, os.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

// removeOrphans is best effort: another process may be doing the same, and a
// folder of another user stays.
func removeOrphans(parent, prefix string) {
	paths, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < orphanAge {
			continue
		}
		if lock, err := acquire(path); err == nil {
			_ = os.RemoveAll(path)
			_ = lock.Close()
		}
	}
}

func acquire(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
