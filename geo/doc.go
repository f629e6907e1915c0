// Package geo computes with places: points, great-circle distance, the H3 cover
// of a home, the estimated time of arrival, and whether a fix can be believed.
//
// It is a leaf: it imports no other package of this module, does no I/O and
// keeps no state. All of it is safe for concurrent use. Degrees are WGS 84,
// distances are metres, speeds are km/h, and headings are degrees clockwise from
// north in [0, 360).
package geo
