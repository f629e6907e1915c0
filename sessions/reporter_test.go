package sessions_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// deviceRepo counts the look-ups of devices, and can be away.
type deviceRepo struct {
	*memory.Repository
	queries, writes atomic.Int64
	most            atomic.Int64 // devices in one query
	away            atomic.Bool
}

func (r *deviceRepo) Devices(ctx context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Device, error) {
	r.queries.Add(1)
	r.most.Store(max(r.most.Load(), int64(len(ids))))
	time.Sleep(time.Millisecond) // a query takes some time; of synctest's clock where that runs
	if r.away.Load() {
		return nil, sessions.Refuse(sessions.DatabaseUnavailable, "away")
	}
	return r.Repository.Devices(ctx, ids)
}

func (r *deviceRepo) DevicesUsed(ctx context.Context, used map[sessions.ID]time.Time) error {
	r.writes.Add(1)
	return r.Repository.DevicesUsed(ctx, used)
}

// phones is a service with devices, on a clock of its own.
type phones struct {
	*sessions.Service
	now  atomic.Pointer[time.Time]
	repo *deviceRepo
	live *memory.Live
}

func newPhones() *phones {
	p := &phones{repo: &deviceRepo{Repository: memory.NewRepository(nil)}}
	p.live = memory.NewLive(sessions.LiveOptions{}, p.clock)
	p.now.Store(&noon)
	p.Service = p.gateway()
	return p
}

// gateway is one more service on the same stores.
func (p *phones) gateway() *sessions.Service {
	return sessions.NewService(p.repo, p.live, sessions.ServiceOptions{Now: p.clock})
}

func (p *phones) clock() time.Time { return *p.now.Load() }

func (p *phones) pass(d time.Duration) {
	at := p.clock().Add(d)
	p.now.Store(&at)
}

func (p *phones) device(t *testing.T) sessions.Device {
	t.Helper()
	d, key, err := p.CreateDevice(t.Context(), sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, "", sessions.OwnTracks)
	require.NoError(t, err)
	require.True(t, d.Accepts(key.Secret))
	return d
}

func (p *phones) book(t *testing.T, trainer sessions.ID) sessions.ID {
	t.Helper()
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	s, _, err := p.Create(t.Context(), admin, sessions.Booking{TrainerID: trainer, StudentID: sessions.NewID(), Home: geo.MustPoint(52, 5)})
	require.NoError(t, err)
	return s.ID
}

func find(t *testing.T, s *sessions.Service, id sessions.ID) (sessions.Reporter, bool) {
	t.Helper()
	r, ok, err := s.Reporter(t.Context(), id)
	require.NoError(t, err)
	return r, ok
}

func TestService_Reporter(t *testing.T) {
	t.Parallel()
	p := newPhones()
	d := p.device(t)
	trainer := sessions.Caller{ID: d.TrainerID, Role: sessions.Trainer}
	other := p.gateway()
	for _, s := range []*sessions.Service{p.Service, other, p.Service, other} {
		r, ok := find(t, s, d.ID)
		require.True(t, ok)
		require.Equal(t, sessions.Reporter{Device: d}, r)
	}
	require.EqualValues(t, 2, p.repo.queries.Load(), "one for each gateway")

	id := p.book(t, d.TrainerID)
	_, err := p.Start(t.Context(), trainer, id, "")
	require.NoError(t, err)
	r, _ := find(t, p.Service, d.ID)
	require.Equal(t, id, r.SessionID, "at once where it was started")
	r, _ = find(t, other, d.ID)
	require.Empty(t, r.SessionID)
	p.pass(10 * time.Second)
	r, _ = find(t, other, d.ID)
	require.Equal(t, id, r.SessionID, "elsewhere within ten seconds")

	_, err = p.Stop(t.Context(), trainer, id)
	require.NoError(t, err)
	r, _ = find(t, p.Service, d.ID)
	require.Empty(t, r.SessionID)
	r, _ = find(t, other, d.ID)
	require.Equal(t, id, r.SessionID)
	_, err = other.UpdateFromDevice(t.Context(), r, []sessions.Fix{{Point: geo.MustPoint(52, 5)}}, nil)
	require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err), "but the live store knows")
	r, _ = find(t, other, d.ID)
	require.Empty(t, r.SessionID)
}

// A revoked device is refused at once where it was revoked, and elsewhere within 30 s.
func TestService_DeleteDevice(t *testing.T) {
	t.Parallel()
	p := newPhones()
	d, other := p.device(t), p.gateway()
	stranger := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	_, ok := find(t, other, d.ID)
	require.True(t, ok)
	require.NoError(t, p.DeleteDevice(t.Context(), stranger, d.ID))
	_, ok = find(t, p.Service, d.ID)
	require.True(t, ok, "not by a stranger")
	require.NoError(t, p.DeleteDevice(t.Context(), sessions.Caller{ID: d.TrainerID, Role: sessions.Trainer}, d.ID))
	_, ok = find(t, p.Service, d.ID)
	require.False(t, ok)
	p.pass(30 * time.Second)
	_, ok = find(t, other, d.ID)
	require.False(t, ok)
}

// While the database is away the last answer holds, for five minutes.
func TestService_Reporter_database_away(t *testing.T) {
	t.Parallel()
	p := newPhones()
	d := p.device(t)
	_, ok := find(t, p.Service, d.ID)
	require.True(t, ok)
	p.repo.away.Store(true)
	p.pass(299 * time.Second)
	_, ok = find(t, p.Service, d.ID)
	require.True(t, ok)
	_, _, err := p.Reporter(t.Context(), sessions.NewID())
	require.Equal(t, sessions.DatabaseUnavailable, sessions.CodeOf(err))
	p.pass(time.Second)
	_, _, err = p.Reporter(t.Context(), d.ID)
	require.Equal(t, sessions.DatabaseUnavailable, sessions.CodeOf(err))
}

// Ten thousand phones that come back at one instant cost a handful of queries, one at a
// time. So do made-up ids.
func TestService_Reporter_storm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPhones()
		const n = 10_000
		ids := make([]sessions.ID, n)
		for i := range ids {
			ids[i] = sessions.NewID()
			if i%2 == 0 {
				ids[i] = p.device(t).ID
			}
		}
		var all sync.WaitGroup
		var known atomic.Int64
		for _, id := range ids {
			all.Go(func() {
				if _, ok, err := p.Reporter(t.Context(), id); ok && err == nil {
					known.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, n/2, known.Load())
		require.LessOrEqual(t, p.repo.queries.Load(), int64(n/2000+2))
		require.LessOrEqual(t, p.repo.most.Load(), int64(2000))
		find(t, p.Service, ids[n-1]) // the storm has driven some of the unknown ones out
		before := p.repo.queries.Load()
		for range 50 {
			_, ok := find(t, p.Service, ids[n-1])
			require.False(t, ok)
		}
		require.LessOrEqual(t, p.repo.queries.Load(), before, "an unknown id is remembered, too")
	})
}

// The last use is written once an hour, for all devices at once.
func TestService_KeepReporters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPhones()
		a, b := p.device(t), p.device(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.KeepReporters(ctx) }()
		report := func() {
			for _, d := range []sessions.Device{a, b} {
				r, ok := find(t, p.Service, d.ID)
				require.True(t, ok)
				_, err := p.UpdateFromDevice(t.Context(), r, nil, nil)
				require.Equal(t, sessions.NoActiveJourney, sessions.CodeOf(err))
			}
			time.Sleep(2 * time.Minute)
		}
		report()
		require.Zero(t, p.repo.writes.Load(), "it was just made")
		p.pass(time.Hour)
		report()
		report()
		require.EqualValues(t, 1, p.repo.writes.Load())
		p.pass(time.Hour)
		report()
		require.EqualValues(t, 2, p.repo.writes.Load())
		list, err := p.repo.DevicesOf(t.Context(), b.TrainerID)
		require.NoError(t, err)
		require.Equal(t, p.clock(), list[0].LastUsedAt)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestService_CreateDevice_refused(t *testing.T) {
	t.Parallel()
	p := newPhones()
	trainer := sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	for name, tt := range map[string]struct {
		caller sessions.Caller
		name   string
		format sessions.Format
		code   sessions.Code
		field  string
	}{
		"a_student":   {sessions.Caller{ID: sessions.NewID(), Role: sessions.Student}, "", sessions.OsmAnd, sessions.Forbidden, ""},
		"an_admin":    {sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, "", sessions.OsmAnd, sessions.Forbidden, ""},
		"no_format":   {trainer, "", "", sessions.InvalidRequest, "format"},
		"a_format":    {trainer, "", "gpx", sessions.InvalidRequest, "format"},
		"a_long_name": {trainer, strings.Repeat("é", 65), sessions.OsmAnd, sessions.InvalidRequest, "name"},
		"a_new_line":  {trainer, "my\nphone", sessions.OsmAnd, sessions.InvalidRequest, "name"},
		"not_utf8":    {trainer, "\xff", sessions.OsmAnd, sessions.InvalidRequest, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := p.CreateDevice(t.Context(), tt.caller, tt.name, tt.format)
			require.Equal(t, tt.code, sessions.CodeOf(err))
			if tt.field != "" {
				var refused *sessions.Error
				require.ErrorAs(t, err, &refused)
				require.Equal(t, tt.field, refused.Field)
			}
		})
	}
}

func FuzzParseDeviceKey(f *testing.F) {
	key := sessions.NewDeviceKey()
	for _, word := range []string{key.String(), " " + key.String() + "\n", "", ".", string(key.ID), string(key.ID) + ".", "x." + key.Secret, key.String() + strings.Repeat("x", 200)} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		k, ok := sessions.ParseDeviceKey(word)
		if !ok {
			require.Empty(t, k.Secret)
			return
		}
		again, ok := sessions.ParseDeviceKey(k.String())
		require.True(t, ok)
		require.Equal(t, k, again)
	})
}

func TestDeviceKey_has_128_random_bits(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		k := sessions.NewDeviceKey()
		require.GreaterOrEqual(t, len(k.Secret)*5, 128, "base32")
		require.False(t, seen[k.Secret])
		seen[k.Secret] = true
		parsed, ok := sessions.ParseDeviceKey(k.String())
		require.True(t, ok)
		require.Equal(t, k, parsed)
	}
}
