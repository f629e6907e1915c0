package sessions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParties(t *testing.T) {
	t.Parallel()
	var p parties
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	has := func(id ID, at time.Time) bool { _, ok := p.get(id, at); return ok }
	meta := Meta{TrainerID: NewID(), StudentID: NewID()}
	id := NewID()
	require.False(t, has(id, now))
	p.put(id, meta, now)
	got, ok := p.get(id, now)
	require.True(t, ok)
	require.Equal(t, meta, got)

	assert.True(t, has(id, now.Add(partiesFor)), "it is of the old generation now")
	assert.True(t, has(id, now.Add(2*partiesFor-1)))
	assert.False(t, has(id, now.Add(2*partiesFor)))

	p.put(id, meta, now)
	assert.True(t, has(id, now.Add(-time.Hour)), "the clock was set back")
	assert.False(t, has(id, now), "and forward again: as after any time, it is asked for anew")
}

// Who has read the clock a moment before another, and comes after, ends nothing.
func TestParties_out_of_order(t *testing.T) {
	t.Parallel()
	var p parties
	now := time.Now()
	id := NewID()
	p.put(id, Meta{}, now)
	for range 100 {
		_, ok := p.get(id, now.Add(partiesFor))
		require.True(t, ok)
		_, ok = p.get(id, now.Add(partiesFor-time.Microsecond))
		require.True(t, ok)
	}
}

func TestParties_bounded(t *testing.T) {
	t.Parallel()
	var p parties
	now := time.Now()
	for range 3*partiesRoom + 10 {
		p.put(NewID(), Meta{}, now)
	}
	assert.LessOrEqual(t, len(p.young)+len(p.old), 2*partiesRoom)
}
