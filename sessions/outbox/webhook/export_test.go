package webhook

import "net"

// Forbidden is the rule of addresses.
var Forbidden = forbidden

// ResolveBy has names looked up by r.
func (w *Webhook) ResolveBy(r *net.Resolver) {
	d := dialer(w.opts.AllowPrivate)
	d.Resolver = r
	w.client = client(d)
}
