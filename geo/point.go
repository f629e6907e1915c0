package geo

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// ErrOutOfRange is returned for degrees that name no place on Earth.
var ErrOutOfRange = errors.New("geo: latitude must be in [-90, 90] and longitude in [-180, 180]")

// Point is a place on the WGS 84 ellipsoid. Its zero value is invalid on
// purpose: 0,0 is a real place in the Gulf of Guinea and also what a forgotten
// field looks like, so the two must not be equal.
type Point struct {
	lat, lng float64
	set      bool
}

// NewPoint takes degrees. They are rounded to 1e-7 degree (11 mm at the
// equator), the precision in which every store keeps them, so that a point
// read back equals the point written. NaN, infinities and anything outside
// the globe give ErrOutOfRange.
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

// Valid reports whether p was made by NewPoint.
func (p Point) Valid() bool { return p.set }

// Lat is the latitude in degrees.
func (p Point) Lat() float64 { return p.lat }

// Lng is the longitude in degrees.
func (p Point) Lng() float64 { return p.lng }

// AppendLat appends the latitude with seven decimals, the form it has in the
// live store.
func (p Point) AppendLat(b []byte) []byte { return strconv.AppendFloat(b, p.lat, 'f', 7, 64) }

// AppendLng appends the longitude with seven decimals.
func (p Point) AppendLng(b []byte) []byte { return strconv.AppendFloat(b, p.lng, 'f', 7, 64) }

// round7 goes through the decimal form and not through math.Round(x*1e7)/1e7,
// which can differ from it by one unit in the last place of the float.
func round7(deg float64) float64 {
	if deg == 0 {
		return 0 // and never -0, which prints as "-0.0000000"
	}
	v := math.Round(deg*1e7) / 1e7
	if v == 0 {
		return 0
	}
	var buf [24]byte
	s := strconv.AppendFloat(buf[:0], v, 'f', 7, 64)
	f, err := strconv.ParseFloat(string(s), 64)
	if err != nil {
		return v
	}
	return f
}
