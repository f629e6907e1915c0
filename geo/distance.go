package geo

import "math"

// EarthRadiusM is the IUGG mean radius R1 in metres. The scripts use the same
// number: the two must agree on who is inside 150 m.
const EarthRadiusM = 6371008.8

// DistanceM is the great-circle distance in metres, by the haversine formula:
// the law of cosines loses all its digits below a metre and would make a
// parked phone move. Antipodes are safe (the argument is clamped). Against the
// ellipsoid it is off by up to 0.56 %, 0.84 m at 150 m. About 40 ns.
func DistanceM(a, b Point) float64 {
	const rad = math.Pi / 180
	sLat := math.Sin((b.lat - a.lat) * rad / 2)
	sLng := math.Sin((b.lng - a.lng) * rad / 2)
	h := sLat*sLat + math.Cos(a.lat*rad)*math.Cos(b.lat*rad)*sLng*sLng
	return 2 * EarthRadiusM * math.Asin(math.Min(1, math.Sqrt(h)))
}
