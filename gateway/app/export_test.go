package app

import "time"

// Keep is what the retention is given.
var Keep = Options.keep

// DrainDelay is how long /readyz says 503 before the end of listening.
var DrainDelay = Options.drainDelay

// WithLeaseFor sets how long a renewal of the region's lease counts.
func WithLeaseFor(o *Options, d time.Duration) { o.leaseFor = d }
