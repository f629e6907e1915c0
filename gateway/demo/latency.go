package demo

import (
	"math"
	"time"
)

// latencies is a histogram whose buckets grow by 5 %, from 10 µs to a minute:
// bounded memory for any run, and a quantile within 2.5 %. Not safe for
// concurrent use.
type latencies struct {
	buckets [latencyBuckets]int
	count   int
	max     time.Duration
}

const (
	latencyFloor   = 10 * time.Microsecond
	latencyGrowth  = 1.05
	latencyBuckets = 321 // 10 µs · 1.05^320 = 60 s
)

func (l *latencies) add(d time.Duration) {
	i := 0
	if d > latencyFloor {
		i = int(math.Round(math.Log(float64(d)/float64(latencyFloor)) / math.Log(latencyGrowth)))
	}
	l.buckets[min(i, latencyBuckets-1)]++
	l.count++
	l.max = max(l.max, d)
}

// quantile is 0 when nothing was added. q in (0, 1].
func (l *latencies) quantile(q float64) time.Duration {
	rank := int(math.Ceil(q * float64(l.count)))
	for i, n := range l.buckets {
		if rank -= n; rank <= 0 && l.count > 0 {
			return min(l.max, time.Duration(float64(latencyFloor)*math.Pow(latencyGrowth, float64(i))))
		}
	}
	return l.max
}
