package sessions

import (
	"math"
	"time"

	"doorstep/geo"
)

// Fix is one position that a phone reports. NewFix checks that its values are in
// range and rounds them to what the live stores keep, so that both implementations
// judge the same numbers.
type Fix struct {
	Point geo.Point
	// AccuracyM is the radius in metres that the phone claims to be within, to
	// 0.1; 0 means that it did not say.
	AccuracyM float64
	// SpeedKMH and HeadingDeg are what the receiver measured, to 0.1; nil where
	// the phone did not say.
	SpeedKMH   *float64
	HeadingDeg *float64
	// RecordedAt is the phone's clock, to the millisecond; zero where the
	// phone did not say.
	RecordedAt time.Time
	// Mock means that the phone itself said that the position is simulated.
	Mock bool
}

// NewFix checks and rounds a fix. Error: InvalidRequest, with a message that names
// the field.
func NewFix(f Fix) (Fix, error) {
	switch {
	case !f.Point.Valid():
		return Fix{}, Refuse(InvalidRequest, "latitude must be in [-90, 90] and longitude in [-180, 180]")
	case !(f.AccuracyM >= 0 && f.AccuracyM <= maxAccuracyM):
		return Fix{}, Refuse(InvalidRequest, "accuracy must be in [0, 100000] metres")
	case f.SpeedKMH != nil && !(*f.SpeedKMH >= 0 && *f.SpeedKMH <= maxSpeedKMH):
		return Fix{}, Refuse(InvalidRequest, "speed must be in [0, 2000] km/h")
	case f.HeadingDeg != nil && !(*f.HeadingDeg >= 0 && *f.HeadingDeg <= 360):
		return Fix{}, Refuse(InvalidRequest, "heading must be in [0, 360) degrees")
	}
	if !f.RecordedAt.IsZero() {
		var err error
		if f.RecordedAt, err = Instant("recordedAt", f.RecordedAt); err != nil {
			return Fix{}, err
		}
	}
	f.AccuracyM = tenth(f.AccuracyM)
	f.SpeedKMH = tenthOf(f.SpeedKMH)
	f.HeadingDeg = headingOf(f.HeadingDeg)
	return f, nil
}

// Instant converts an instant from outside to what the stores keep: UTC, in
// milliseconds, and in a range where all arithmetic on it is exact. Error:
// InvalidRequest, with a message that names the field.
func Instant(field string, t time.Time) (time.Time, error) {
	if t.Before(earliest) || t.After(latest) {
		return time.Time{}, Refuse(InvalidRequest, field+" must be between the years 2000 and 2200")
	}
	return ms(t), nil
}

const (
	maxAccuracyM = 100_000 // a phone that knows only its country reports tens of km
	maxSpeedKMH  = 2_000   // no trainer flies faster; keeps one decimal exact
)

var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// RoundM rounds a distance in metres to 0.1, as every answer and both stores do.
func RoundM(d float64) float64 { return tenth(d) }

// tenth rounds to one decimal. It adds 0 because some receivers send a negative
// zero, which would print with its sign; -0 + 0 is 0.
func tenth(v float64) float64 { return math.Round(v*10)/10 + 0 }

func tenthOf(v *float64) *float64 {
	if v == nil {
		return nil
	}
	t := tenth(*v)
	return &t
}

// headingOf rounds a heading and turns 360, which some receivers send for north,
// into 0. 359.97 rounds to that too.
func headingOf(v *float64) *float64 {
	t := tenthOf(v)
	if t != nil && *t >= 360 {
		*t = 0
	}
	return t
}
