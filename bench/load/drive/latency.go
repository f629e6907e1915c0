package drive

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram is an HdrHistogram of microseconds, 1 µs to 2 minutes at three
// digits.
type Histogram = hdrhistogram.Histogram

// NewHistogram is an empty one.
func NewHistogram() *Histogram { return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 3) }

// latency is a histogram of the whole run and one since the last lap. Safe for
// concurrent use.
type latency struct {
	mu         sync.Mutex
	whole, lap *Histogram
}

func newLatency() *latency { return &latency{whole: NewHistogram(), lap: NewHistogram()} }

// record takes a duration; what is out of range is put to its edge.
func (l *latency) record(d time.Duration) {
	us := min(max(d.Microseconds(), 1), l.whole.HighestTrackableValue())
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.whole.RecordValue(us) // in range
	_ = l.lap.RecordValue(us)
}

// next is the lap's 99th percentile; a new lap begins.
func (l *latency) next() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	p99 := time.Duration(l.lap.ValueAtQuantile(99)) * time.Microsecond
	l.lap.Reset()
	return p99
}

func (l *latency) encode() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whole.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}
