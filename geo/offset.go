package geo

import "math"

const radPerDeg = math.Pi / 180

// Offset is the point distanceM metres from p along the great circle that
// leaves it at bearingDeg. It crosses poles and the antimeridian, and goes by
// vectors because the arcsine of the usual formula loses a decimetre beside a
// pole. p must be valid.
func Offset(p Point, bearingDeg, distanceM float64) Point {
	sinD, cosD := math.Sincos(distanceM / EarthRadiusM)
	sinLat, cosLat := math.Sincos(p.lat * radPerDeg)
	sinB, cosB := math.Sincos(bearingDeg * radPerDeg)
	x, y, z := cosD*cosLat-sinD*cosB*sinLat, sinD*sinB, cosD*sinLat+sinD*cosB*cosLat
	lat := math.Atan2(z, math.Hypot(x, y)) / radPerDeg
	lng := math.Remainder(p.lng+math.Atan2(y, x)/radPerDeg, 360)
	return Point{lat: round7(lat), lng: round7(lng), set: true}
}

// BearingDeg is the direction in which the great circle from a to b leaves a,
// in [0, 360). It is 0 where there is none: the same point, or antipodes.
func BearingDeg(a, b Point) float64 {
	sinA, cosA := math.Sincos(a.lat * radPerDeg)
	sinB, cosB := math.Sincos(b.lat * radPerDeg)
	sinL, cosL := math.Sincos((b.lng - a.lng) * radPerDeg)
	deg := math.Atan2(sinL*cosB, cosA*sinB-sinA*cosB*cosL) / radPerDeg
	return math.Mod(deg+360, 360)
}
