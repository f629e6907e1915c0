// Package flowbuffer makes valkey-go use its flow buffer as the command queue.
// The default queue is a ring: a caller that finds the ring full waits past its
// own deadline, for seconds (valkey-io/valkey-go, redis/rueidis issue 858). With
// the flow buffer no caller does.
//
// valkey-go reads the choice from the environment in its own init, before main
// runs. Go initialises packages whose imports are ready in the order of their
// import paths, and "doorstep/…" sorts before "github.com/…". So importing this
// package is enough, and it must stay a package that imports nothing of
// valkey-go; TestQueue in package valkeyconn checks both. An operator who sets
// the variable overrides the choice.
package flowbuffer

import "os"

// Env is the environment variable that valkey-go reads.
const Env = "RUEIDIS_QUEUE_TYPE"

func init() {
	if _, set := os.LookupEnv(Env); !set {
		// Setenv fails only for a malformed name, and this name is a constant.
		_ = os.Setenv(Env, "flowbuffer")
	}
}
