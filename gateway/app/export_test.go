package app

// Keep is what the retention is given.
var Keep = Options.keep

// DrainDelay is how long /readyz says 503 before the end of listening.
var DrainDelay = Options.drainDelay
