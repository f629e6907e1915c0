// Package flowbuffer chooses valkey-go's command queue. With the default one, a
// ring, a caller that finds it full waits past its own deadline, for seconds
// (valkey-io/valkey-go, redis/rueidis issue 858); with the flow buffer none
// does.
//
// valkey-go reads the choice from the environment in its own init, before main
// runs. Go initialises packages whose imports are ready in the order of their
// paths, and "doorstep/…" sorts before "github.com/…", so importing this
// package is enough; TestQueue in package scripts holds it to that. An operator
// who sets the variable keeps the last word.
package flowbuffer

import "os"

// Env is the variable that valkey-go reads.
const Env = "RUEIDIS_QUEUE_TYPE"

func init() {
	if _, set := os.LookupEnv(Env); !set {
		// It fails only for a malformed name, and this one is a constant.
		_ = os.Setenv(Env, "flowbuffer")
	}
}
