package geo

import "math"

// CrossesFence reports whether the straight way from a to b passes within
// radiusM of home: a car may go by a door between two fixes. It tells who is
// arriving; an arrival itself needs a fix inside.
//
// The H3 cover cannot stand before it, because neither end need be in a cover
// cell. The triangle does: it can only be true if the way is longer than the
// distance from b to the home less the radius, and both numbers are at hand, so
// the script asks that first and nearly never goes on.
func CrossesFence(a, b, home Point, radiusM float64) bool {
	return segmentM(a, b, home) <= radiusM
}

// segmentM is the distance from home to the great-circle segment from a to b.
// In the gnomonic projection centred on home great circles are straight lines
// and a distance d is R·tan(d/R), so plane geometry is exact, at the poles and
// the antimeridian too. An end on the other side of the Earth has no image;
// then the nearer end decides, and a journey never gets there.
func segmentM(a, b, home Point) float64 {
	ax, ay, aSeen := gnomonic(a, home)
	bx, by, bSeen := gnomonic(b, home)
	if !aSeen || !bSeen {
		return min(DistanceM(a, home), DistanceM(b, home))
	}
	dx, dy := bx-ax, by-ay
	along := 0.0
	if square := dx*dx + dy*dy; square > 0 {
		along = min(1, max(0, -(ax*dx+ay*dy)/square))
	}
	x, y := ax+along*dx, ay+along*dy
	return EarthRadiusM * math.Atan(math.Sqrt(x*x+y*y))
}

// gnomonic projects p onto the plane that touches a unit sphere at centre; seen
// is false for the far hemisphere.
func gnomonic(p, centre Point) (x, y float64, seen bool) {
	sinC, cosC := math.Sincos(centre.lat * radPerDeg)
	sinP, cosP := math.Sincos(p.lat * radPerDeg)
	sinL, cosL := math.Sincos((p.lng - centre.lng) * radPerDeg)
	depth := sinC*sinP + cosC*cosP*cosL
	if depth < 1e-9 {
		return 0, 0, false
	}
	return cosP * sinL / depth, (cosC*sinP - sinC*cosP*cosL) / depth, true
}
