// Package process keeps what a process starts from outliving it: Start runs a
// program that the kernel kills when this process ends, however it ends, and
// NewDir makes a temporary folder that goes with Remove or, after a kill -9,
// when the next process makes one.
//
// It is a leaf for throw-away servers (the demo's, the tests'); nothing that
// holds data worth keeping should be started by it.
package process
