package geo

import "fmt"

// Fix is one position a phone reports, as it came: nothing in it is trusted
// yet. Only Point is required.
type Fix struct {
	Point      Point
	AccuracyM  float64 // radius of 68 % confidence; 0 = the phone did not say
	SpeedKMH   Reading // the receiver's own speed, never one we computed
	HeadingDeg Reading // clockwise from north, [0, 360)
	RecordedMS int64   // the phone's clock, Unix ms; 0 = absent
	Mock       bool    // Android's isMock, iOS's isSimulatedBySoftware
}

// Reading is a number a receiver may not have. Its zero value is "none": 0 km/h
// is a parked car and 0 degrees is north, so a plain float could not tell.
type Reading struct {
	value float64
	known bool
}

// Measured makes a Reading that is there.
func Measured(value float64) Reading { return Reading{value: value, known: true} }

// Get is the value, and whether there is one.
func (r Reading) Get() (value float64, known bool) { return r.value, r.known }

// Mode is how the trainer says they travel. It chooses the speeds that can be
// believed.
type Mode string

// The closed list of modes, the contract's `travelMode`.
const (
	Car  Mode = "car"
	Bike Mode = "bike"
	Walk Mode = "walk"
)

// ParseMode accepts the names above and nothing else. The empty string is Car,
// the default of a session: it is the mode that refuses the fewest honest
// phones.
func ParseMode(name string) (Mode, error) {
	switch m := Mode(name); m {
	case "":
		return Car, nil
	case Car, Bike, Walk:
		return m, nil
	}
	return "", fmt.Errorf("geo: travel mode %q is none of car, bike, walk", name)
}
