package demo

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"doorstep/sessions"
)

// journey makes the i-th journey with its parties; their ids follow from the
// seed.
func (d *demo) journey(shared *stage, i int) (*journey, error) {
	source := randomness(d.opts.Seed, uint64(i)) //nolint:gosec // an index is not negative
	session, err := newID(source)
	if err != nil {
		return nil, err
	}
	trainer, err := d.newcomer(sessions.Trainer, source)
	if err != nil {
		return nil, err
	}
	pupil, err := d.newcomer(sessions.Student, source)
	if err != nil {
		return nil, err
	}
	j := &journey{stage: shared, plan: d.list.Plans[i], index: i, session: string(session), sightings: newSightings()}
	j.phone = &phone{client: trainer, journey: j, rng: rand.New(source)}
	j.student = &student{client: pupil, journey: j}
	return j, nil
}

// tokenTTL outlasts any demo: tokens expire on the real clock.
const tokenTTL = 24 * time.Hour

// newcomer is a user with a token.
func (d *demo) newcomer(role sessions.Role, source io.Reader) (*client, error) {
	id, err := newID(source)
	if err != nil {
		return nil, err
	}
	token, err := d.backend.app.Token(sessions.Caller{ID: id, Role: role}, tokenTTL)
	return &client{base: d.backend.base, http: d.http, user: id, token: token}, err
}

// randomness is the i-th journey's own, so that a journey does not depend on
// how many are played beside it.
func randomness(seed, i uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], i)
	return rand.NewChaCha8(key)
}

func newID(source io.Reader) (sessions.ID, error) {
	id, err := uuid.NewRandomFromReader(source)
	return sessions.ID(id.String()), err
}
