// Package drive plays many journeys over HTTP, cheaply: it shares its machine
// with what it measures. Requests are bytes made beforehand, and a latency counts
// from the instant at which its request was due, whether or not the generator or
// the target were late, so that every request that a stall delays shows it (no
// coordinated omission).
//
// A Plan says what to play. Start plays it in processes of its own, since a
// process has only so many file descriptors: they are the program's own binary
// started again. A program that uses Start calls Child first in main.
package drive
