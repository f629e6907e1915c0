package geo

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// ErrOutOfRange is returned for degrees that are no place on Earth.
var ErrOutOfRange = errors.New("geo: latitude must be in [-90, 90] and longitude in [-180, 180]")

// Point is a place on the WGS 84 ellipsoid. Its zero value is invalid: 0,0 is a
// real place in the Gulf of Guinea, and it is also what a forgotten field looks
// like, so the two must differ.
type Point struct {
	lat, lng float64
	set      bool
}

// NewPoint makes a point of degrees. They are rounded to 1e-7 degree (11 mm at
// the equator), the precision of every store, so a point that is read back
// equals the point that was written. NaN, infinities and degrees out of range
// give ErrOutOfRange.
func NewPoint(latitude, longitude float64) (Point, error) {
	if !(latitude >= -90 && latitude <= 90 && longitude >= -180 && longitude <= 180) {
		return Point{}, ErrOutOfRange
	}
	return Point{lat: round7(latitude), lng: round7(longitude), set: true}, nil
}

// MustPoint is NewPoint for constants in tests and tables; it panics on an
// error.
func MustPoint(latitude, longitude float64) Point {
	p, err := NewPoint(latitude, longitude)
	if err != nil {
		panic(fmt.Sprintf("geo.MustPoint(%v, %v): %v", latitude, longitude, err))
	}
	return p
}

// Valid reports whether p is a place, and not the zero value.
func (p Point) Valid() bool { return p.set }

// Lat returns the latitude in degrees.
func (p Point) Lat() float64 { return p.lat }

// Lng returns the longitude in degrees.
func (p Point) Lng() float64 { return p.lng }

// AppendLat appends the latitude in degrees with seven decimals, as in the live
// store.
func (p Point) AppendLat(b []byte) []byte { return append7(b, p.lat) }

// AppendLng appends the longitude in degrees with seven decimals.
func (p Point) AppendLng(b []byte) []byte { return append7(b, p.lng) }

// round7 returns the float nearest to deg in seven decimals. The text of append7
// is read as the same float, because a quotient of two integers that floats hold
// exactly is rounded once.
func round7(deg float64) float64 {
	return math.Round(deg*1e7)/1e7 + 0 // and never -0, which prints as "-0.0000000"
}

// append7 is strconv.AppendFloat(b, deg, 'f', 7, 64) for a result of round7, in a
// quarter of the time.
func append7(b []byte, deg float64) []byte {
	n := int64(math.Round(deg * 1e7))
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendInt(b, n/1e7, 10)
	decimals := strconv.AppendInt(append(b, '.'), 1e7+n%1e7, 10)
	return append(decimals[:len(b)+1], decimals[len(b)+2:]...) // without the 1 that kept the zeros
}

// nowhereM is how close to 0,0 a point is no position. Phones send 0,0 when they
// have none; the sea is there 5 km deep.
const nowhereM = 1

// Nowhere reports whether a point is 0,0 to the metre. update.lua is told.
func (p Point) Nowhere() bool {
	const degree = 1e-4 // ten metres: the exact distance costs a haversine
	return p.set && math.Abs(p.lat) < degree && math.Abs(p.lng) < degree && DistanceM(p, Point{set: true}) <= nowhereM
}
