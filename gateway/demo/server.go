package demo

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"doorstep/internal/servers/valkeyserver"
)

// program is a live store's server on this machine.
type program struct{ name, version, path string }

// oldest is the first major version that has what the scripts need: sharded
// publish and the script header. Ubuntu 22.04 still brings Redis 6.
const oldest = 7

// findServer looks for one on the PATH that is new enough, Valkey before Redis.
func findServer(ctx context.Context) (program, error) {
	err := valkeyserver.ErrNotFound
	for _, kind := range valkeyserver.Kinds() {
		path, ok := kind.Find()
		if !ok {
			continue
		}
		version, major := versionOf(ctx, path)
		if major >= oldest {
			return program{name: kind.Program(), version: version, path: path}, nil
		}
		err = fmt.Errorf("%s %s is too old", kind.Program(), version)
	}
	return program{}, err
}

var versionPattern = regexp.MustCompile(`v=((\d+)[\d.]*)`)

// versionOf asks a server's program; both kinds say "v=8.0.1".
func versionOf(ctx context.Context, path string) (version string, major int) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return err.Error(), 0
	}
	found := versionPattern.FindSubmatch(text)
	if found == nil {
		return "of an unknown version", 0
	}
	major, _ = strconv.Atoi(string(found[2]))
	return string(found[1]), major
}
