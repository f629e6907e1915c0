package scripts

import (
	"context"
	"fmt"

	"github.com/valkey-io/valkey-go"

	"doorstep/sessions"
)

// Meta implements sessions.Live by one HMGET.
func (s *Store) Meta(ctx context.Context, id sessions.ID) (sessions.Meta, bool, error) {
	res, err := s.call(ctx, "meta", metaKey(id), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return c.Do(ctx, c.B().Hmget().Key(metaKey(id)).Field("trainer", "student", "region").Build())
	})
	if err != nil {
		return sessions.Meta{}, false, err
	}
	reply, err := res.AsStrSlice()
	if err == nil && len(reply) != 3 {
		err = fmt.Errorf("%d fields, want 3", len(reply))
	}
	if err != nil {
		return sessions.Meta{}, false, unreadable("meta", err)
	}
	trainer, ok1 := sessions.ParseID(reply[0])
	student, ok2 := sessions.ParseID(reply[1])
	if !ok1 || !ok2 {
		return sessions.Meta{}, false, nil
	}
	return sessions.Meta{TrainerID: trainer, StudentID: student, Region: reply[2]}, true, nil
}

// SetMeta implements sessions.Live by meta.lua. With two commands, one for the
// hash and one for its expiry, the hash could be left without an expiry.
func (s *Store) SetMeta(ctx context.Context, id sessions.ID, m sessions.Meta) error {
	_, err := s.call(ctx, "set_meta", metaKey(id), func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.meta.Exec(ctx, c, []string{metaKey(id)},
			[]string{string(m.TrainerID), string(m.StudentID), milliseconds(s.opts.Live.LocationTTL), m.Region})
	})
	return err
}
