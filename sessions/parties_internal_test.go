package sessions

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParties(t *testing.T) {
	t.Parallel()
	p := newParties()
	now := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	has := func(id ID, at time.Time) bool { _, ok := p.get(id, at); return ok }
	meta := Meta{TrainerID: NewID(), StudentID: NewID()}
	id := NewID()
	require.False(t, has(id, now))
	p.put(id, meta, now)
	got, ok := p.get(id, now)
	require.True(t, ok)
	require.Equal(t, meta, got.meta)
	again, _ := p.get(ID(strings.Clone(string(id))), now)
	assert.Same(t, unsafe.StringData(string(id)), unsafe.StringData(string(again.id)), "one text for all who ask")

	assert.True(t, has(id, now.Add(partiesFor-1)))
	assert.True(t, has(id, now.Add(-time.Second)), "a clock read by another goroutine, a moment earlier")
	assert.False(t, has(id, now.Add(partiesFor)))
	assert.False(t, has(id, now.Add(-time.Hour)), "the clock was set back")
}

func TestParties_bounded(t *testing.T) {
	t.Parallel()
	p := newParties()
	now := time.Now()
	for range partiesRoom + 10 {
		p.put(NewID(), Meta{}, now)
	}
	assert.Equal(t, partiesRoom, p.sessions.Len())
}
