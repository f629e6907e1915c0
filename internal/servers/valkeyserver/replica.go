package valkeyserver

import (
	"context"
	"strconv"
	"strings"
)

// untilFollowing waits until a write to the primary, which must be empty, reaches
// the replica. It is not enough that the link is up or the replica online: a
// primary holds its writes back until the replica's first acknowledgement after
// the copy, which may come a second later. A primary that dies or stalls in that
// second leaves an empty replica.
func (s *Server) untilFollowing(ctx context.Context, primary *Server) error {
	if err := until(ctx, "replica", func() bool {
		said, err := s.infoOf(ctx, "master_link_status")
		return err == nil && said == "up"
	}); err != nil {
		return err
	}
	if _, err := primary.Do(ctx, "FLUSHALL"); err != nil { // a write that every server takes, because it names no key
		return err
	}
	written, err := primary.offset(ctx, "master_repl_offset")
	if err != nil {
		return err
	}
	return until(ctx, "replica's first write", func() bool {
		read, err := s.offset(ctx, "slave_repl_offset")
		return err == nil && read >= written
	})
}

func (s *Server) offset(ctx context.Context, field string) (int, error) {
	said, err := s.infoOf(ctx, field)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(said)
}

// infoOf returns one field of INFO replication; empty when there is none.
func (s *Server) infoOf(ctx context.Context, field string) (string, error) {
	said, err := s.Do(ctx, "INFO", "replication")
	_, rest, _ := strings.Cut(said, "\n"+field+":")
	value, _, _ := strings.Cut(rest, "\r")
	return value, err
}
