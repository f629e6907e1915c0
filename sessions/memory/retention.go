package memory

import (
	"context"
	"time"

	"doorstep/sessions"
)

var _ sessions.OldRows = (*Repository)(nil)

// DeleteOld implements sessions.OldRows, by the wall clock, for what a Repository keeps:
// journey records, histories, push tokens, devices, share links, and the ids of events. An outbox.Memory bounds what it
// keeps by number.
func (r *Repository) DeleteOld(_ context.Context, kind sessions.Kept, age time.Duration, limit int) (n int, mine bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := time.Now().Add(-age)
	switch kind {
	case sessions.DoneEvents:
		n = deleteUpTo(limit, r.recorded, func(at time.Time) bool { return at.Before(before) })
	case sessions.JourneyRecords:
		n = deleteUpTo(limit, r.journeys, func(j sessions.JourneyRecord) bool { return j.StartedAt.Before(before) })
	case sessions.AuditEntries:
		n = r.audits.deleteOld(before, limit)
	case sessions.UnusedPushTokens:
		n = deleteUpTo(limit, r.pushTokens, func(d sessions.PushToken) bool { return d.LastUsedAt.Before(before) })
	case sessions.UnusedDevices:
		n = deleteUpTo(limit, r.devices, func(d sessions.Device) bool { return d.LastUsedAt.Before(before) })
	case sessions.OldShareLinks:
		n = deleteUpTo(limit, r.links, func(l sessions.ShareLink) bool { return l.CreatedAt.Before(before) })
	case sessions.DoneDeliveries, sessions.DeadEvents, sessions.DeadDeliveries, sessions.HandledEvents:
	}
	return n, true, nil
}

func deleteUpTo[K comparable, V any](limit int, from map[K]V, old func(V) bool) (n int) {
	for key, v := range from {
		if n == limit {
			break
		}
		if old(v) {
			delete(from, key)
			n++
		}
	}
	return n
}
