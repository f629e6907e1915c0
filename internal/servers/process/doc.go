// Package process makes sure that nothing outlives the process that started it.
// Start runs a program that the kernel kills when this process ends, however it
// ends. NewDir makes a temporary folder that Remove deletes or, after a kill -9,
// the next process that makes one.
//
// It is for throw-away servers, of the demo and of tests. Nothing that holds data
// worth keeping should be started by it.
package process
