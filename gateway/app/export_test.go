package app

// Keep is what the retention is given.
var Keep = Options.keep
