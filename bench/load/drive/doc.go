// Package drive plays many journeys over HTTP, cheaply: it shares its machine
// with what it measures. Requests are bytes made beforehand, answers are read
// by hand, and a latency counts from the instant at which its request was due,
// whether or not the generator or the target were late, so that a stall is
// seen by every request that it delays (no coordinated omission).
//
// A Plan says what to play. Start plays it in a process of its own, the
// program's own binary started again, since a process has only so many file
// descriptors; a program that uses Start calls Child first thing in main.
package drive
