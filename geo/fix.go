package geo

import "fmt"

// Fix is one position as a phone reports it. Nothing in it is trusted yet. Only
// Point is required.
type Fix struct {
	Point      Point
	AccuracyM  float64 // metres, radius of 68 % confidence; 0 = the phone did not say
	SpeedKMH   Reading // the receiver's own speed, never one that was computed here
	HeadingDeg Reading // clockwise from north, [0, 360)
	RecordedMS int64   // the phone's clock, Unix ms; 0 = absent; only Clock uses it
	TakenMS    int64   // when it was taken, by the store's clock, Unix ms; Clock.Take gives it
	Mock       bool    // Android's isMock, iOS's isSimulatedBySoftware
}

// Reading is a number that a receiver may not have. Its zero value is "none". A
// plain float could not say that: 0 km/h is a parked car and 0 degrees is north.
type Reading struct {
	value float64
	known bool
}

// Measured makes a Reading that has a value.
func Measured(value float64) Reading { return Reading{value: value, known: true} }

// Get returns the value, and whether there is one.
func (r Reading) Get() (value float64, known bool) { return r.value, r.known }

// Mode is how the trainer travels, as they said themselves. It chooses the
// speeds that can be believed.
type Mode string

// The closed list of modes: `travelMode` in the API.
const (
	Car  Mode = "car"
	Bike Mode = "bike"
	Walk Mode = "walk"
)

// ParseMode accepts the names above and nothing else. The empty string is Car,
// the default of a session, because that mode refuses the fewest honest phones.
func ParseMode(name string) (Mode, error) {
	switch m := Mode(name); m {
	case "":
		return Car, nil
	case Car, Bike, Walk:
		return m, nil
	}
	return "", fmt.Errorf("geo: travel mode %q is none of car, bike, walk", name)
}
