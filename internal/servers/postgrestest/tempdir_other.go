//go:build !linux

package postgrestest

import "os"

func tempDir() string { return os.TempDir() }
