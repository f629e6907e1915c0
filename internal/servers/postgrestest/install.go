package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// errNotFound says that this machine has no PostgreSQL server.
var errNotFound = errors.New("no initdb and postgres on the PATH or in /usr/lib/postgresql/*/bin")

// debianBins is where Debian keeps the server's programs, off the PATH.
const debianBins = "/usr/lib/postgresql/*/bin"

// installation is a PostgreSQL on this machine, with the user it runs as.
type installation struct {
	bin   string              // the folder of initdb and postgres
	owner *syscall.Credential // nil: this process's own user
}

// findInstallation looks on the PATH first, then where Debian keeps them.
func findInstallation() (installation, error) {
	bin, err := findBin(debianBins)
	if err != nil {
		return installation{}, err
	}
	if os.Geteuid() != 0 {
		return installation{bin: bin}, nil
	}
	owner, err := unprivileged()
	return installation{bin: bin, owner: owner}, err
}

// findBin looks on the PATH, then in the folders that match pattern, of which the
// last by name wins: the newest version while versions have two digits.
func findBin(pattern string) (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// A link on the PATH is followed: postgres finds its share folder by the
		// place of its own file, and the two programs belong together.
		if file, err := filepath.EvalSymlinks(initdb); err == nil && isServerBin(filepath.Dir(file)) {
			return filepath.Dir(file), nil
		}
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	for _, bin := range slices.Backward(found) {
		if isServerBin(bin) {
			return bin, nil
		}
	}
	return "", errNotFound
}

func isServerBin(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

// unprivileged is the user that PostgreSQL runs as when we are root, which it refuses.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(account.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("uid of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(account.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("gid of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("root, and neither a user postgres nor nobody to run PostgreSQL as")
}

// command is a program of the installation, run as its owner in dir, in the C
// locale and without the caller's PG variables.
func (in installation) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(in.bin, program), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + in.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.owner}
	return cmd
}

// folder makes a folder that belongs to the owner.
func (in installation) folder(dir string, mode os.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	if in.owner == nil {
		return nil
	}
	return os.Chown(dir, int(in.owner.Uid), int(in.owner.Gid))
}
