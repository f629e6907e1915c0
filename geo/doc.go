// Package geo is the arithmetic of places: points, great-circle distance, the
// H3 cover of a home, and the judgement of whether a fix can be believed.
//
// It is a leaf: it imports nothing of this module, does no I/O, keeps no state
// and is safe for concurrent use throughout. Degrees are WGS 84, distances are
// metres, speeds km/h, headings degrees clockwise from north in [0, 360).
package geo
