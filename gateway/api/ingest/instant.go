package ingest

import (
	"math"
	"strconv"
	"time"
)

// instant is an instant that may not have been said. What was said and cannot be
// read is a zero time.
type instant struct {
	time.Time
	said bool
}

// layouts are how apps write instants. Those without an offset are UTC. Go reads
// fractions of a second behind any of them.
var layouts = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05"}

// instantOf reads Unix seconds, Unix milliseconds, or a text. Empty is not said.
func instantOf(text []byte) instant {
	if len(text) == 0 {
		return instant{}
	}
	if n, err := strconv.ParseFloat(string(text), 64); err == nil {
		return instant{ofNumber(n), true}
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, string(text)); err == nil {
			return instant{t, true}
		}
	}
	return instant{said: true}
}

// ofNumber reads what is less than 2³¹ as seconds, which they are until 2038; what
// is more can only be milliseconds.
func ofNumber(n float64) time.Time {
	if n < 1<<31 {
		n *= 1000
	}
	if !(n > 0 && n < 1e13) { // NaN, too; the year 2286
		return time.Time{}
	}
	return time.UnixMilli(int64(math.Round(n)))
}
