package main

/*
#include <sys/prctl.h>

// Before the first thread of the Go runtime: a thread has the slack of the one that made it.
__attribute__((constructor)) static void setTimerSlack(void) {
	prctl(PR_SET_TIMERSLACK, 1000000UL, 0UL, 0UL, 0UL); // in nanoseconds; where it is refused, all is as usual
}
*/
import "C"

// A thread of this process that sleeps is woken up to a millisecond late, and not up to 50 µs. The Go
// runtime has a thread that looks after the others every 20 µs while any of them runs, and that
// took an eighth to a quarter of the CPU of a gateway that is busy for a moment, again and again:
// docs/adr/0026.
