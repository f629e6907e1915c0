package postgrestest

import (
	"context"
	"errors"
	"fmt"

	"doorstep/internal/servers/process"
)

// Standby starts a server that follows this one, whose superuser must be let in without a
// password. From then on a transaction is committed here when it is there, too, so that no
// answered one is lost with this server; while the standby is away, none commits. Close it.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	dir, err := process.NewDir(tempDir(), dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("postgrestest: %w", err)
	}
	standby := &Server{in: s.in, dir: dir, settings: s.settings, port: s.port}
	if err = standby.copy(s); err == nil {
		err = standby.launch(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgrestest: standby: %w", err), dir.Remove())
	}
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		if err := s.execute(ctx, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("postgrestest: standby: %w", err), standby.Close())
		}
	}
	return standby, nil
}

// Promote makes a standby take writes, and returns once it does.
func (s *Server) Promote(ctx context.Context) error { return s.execute(ctx, "SELECT pg_promote()") }

// copy makes the data folder, a copy of the primary's that follows it.
func (s *Server) copy(primary *Server) error {
	if err := s.folders(); err != nil {
		return err
	}
	return s.run("pg_basebackup", "--pgdata="+s.dataDir(), "--dbname="+primary.DSN(), "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
}
