package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// Program is the gateway's binary, or one that takes its settings and place.
type Program struct{ dir, path string }

// Built uses a binary that exists, which Remove leaves. With no path it is Build.
func Built(ctx context.Context, path string) (*Program, error) {
	if path == "" {
		return Build(ctx)
	}
	return &Program{path: path}, nil
}

// Build builds the gateway into a fresh folder. Remove it.
func Build(ctx context.Context) (*Program, error) { return BuildPackage(ctx, "doorstep/gateway") }

// BuildPackage is Build of another command.
func BuildPackage(ctx context.Context, name string) (*Program, error) {
	dir, err := os.MkdirTemp("", "doorstep-rig-")
	if err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	p := &Program{dir: dir, path: filepath.Join(dir, "gateway")}
	build := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-o", p.path, name) //nolint:gosec // a path of our own
	if out, err := build.CombinedOutput(); err != nil {
		p.Remove()
		return nil, fmt.Errorf("rig: go build: %w: %s", err, out)
	}
	return p, nil
}

// Path is the binary's path, for another program's Built.
func (p *Program) Path() string { return p.path }

// Remove deletes what Build built.
func (p *Program) Remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// Run runs a command of the gateway to its end, such as "migrate".
func (p *Program) Run(ctx context.Context, settings []string, args ...string) error {
	cmd := exec.CommandContext(ctx, p.path, args...) //nolint:gosec // our own binary
	cmd.Env = environment(settings)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rig: gateway %v: %w: %s", args, err, out)
	}
	return nil
}

// environment makes the process's environment of settings, "NAME=value" without the
// prefix, and variables of the AWS SDK, valkey-go and node. This process's DOORSTEP_ and AWS_ variables
// do not reach the gateway.
func environment(settings []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "DOORSTEP_JWT_SECRET=" + Secret}
	for _, s := range settings {
		if !foreign.MatchString(s) {
			s = "DOORSTEP_" + s
		}
		env = append(env, s)
	}
	return env
}

var foreign = regexp.MustCompile("^(AWS|RUEIDIS|NODE)_")
