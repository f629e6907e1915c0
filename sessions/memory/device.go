package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"doorstep/sessions"
)

// PutDevice implements sessions.Devices.
func (r *Repository) PutDevice(_ context.Context, d sessions.Device) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.devicesOf(d.TrainerID)) >= sessions.MaxDevices {
		return sessions.Refuse(sessions.TooManyDevices, "you have ten devices; delete one first")
	}
	d.CreatedAt, d.LastUsedAt = ms(d.CreatedAt), ms(d.LastUsedAt)
	r.devices[d.ID] = d
	return nil
}

// Devices implements sessions.Devices.
func (r *Repository) Devices(_ context.Context, ids []sessions.ID) (map[sessions.ID]sessions.Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return some(r.devices, ids), nil
}

// DevicesOf implements sessions.Devices.
func (r *Repository) DevicesOf(_ context.Context, trainerID sessions.ID) ([]sessions.Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.devicesOf(trainerID), nil
}

func (r *Repository) devicesOf(trainerID sessions.ID) []sessions.Device {
	return sorted(r.devices, func(d sessions.Device) bool { return d.TrainerID == trainerID }, func(a, b sessions.Device) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// DeleteDevice implements sessions.Devices.
func (r *Repository) DeleteDevice(_ context.Context, trainerID, id sessions.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[id].TrainerID == trainerID {
		delete(r.devices, id)
	}
	return nil
}

// DevicesUsed implements sessions.Devices.
func (r *Repository) DevicesUsed(_ context.Context, used map[sessions.ID]time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, at := range used {
		if d, ok := r.devices[id]; ok && ms(at).After(d.LastUsedAt) {
			d.LastUsedAt = ms(at)
			r.devices[id] = d
		}
	}
	return nil
}

// RunningSessions implements sessions.Devices.
func (r *Repository) RunningSessions(_ context.Context, trainerIDs []sessions.ID) (map[sessions.ID]sessions.RunningSession, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := map[sessions.ID]sessions.RunningSession{}
	for _, s := range r.sessions {
		if s.JourneyActive() && slices.Contains(trainerIDs, s.TrainerID) {
			running[s.TrainerID] = sessions.RunningSession{SessionID: s.ID, Region: s.Region}
		}
	}
	return running, nil
}
