package webhook

import (
	"net"

	"doorstep/sessions"
)

// Forbidden is the rule of addresses.
var Forbidden = forbidden

// MaxDoubts bounds how many events that failed are remembered.
const MaxDoubts = maxDoubts

// Fail notes that these events have failed, and returns how many are remembered.
func (w *Webhook) Fail(events ...sessions.Event) int {
	for _, e := range events {
		w.doubts.failedAgain(e.ID)
	}
	return len(w.doubts.failed)
}

// ResolveBy has names looked up by r.
func (w *Webhook) ResolveBy(r *net.Resolver) {
	d := dialer(w.opts.AllowPrivate)
	d.Resolver = r
	w.client = client(d)
}
