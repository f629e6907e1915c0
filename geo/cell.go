package geo

import (
	"strconv"

	"github.com/uber/h3-go/v4"
)

// cellResolution is the finest H3 resolution in use: its cells are 170 to 225 m
// from centre to corner, so that 150 m around a home touch few of them.
const cellResolution = 9

// cellLen is the length of a full cell text: three digits of base cell, then
// one a resolution.
const cellLen = 3 + cellResolution

// CellOf is the H3 cell of a point at resolution 9, as twelve digits: the base
// cell (000 to 121) and then the child, 0 to 6, at each resolution. It is not
// H3's own hexadecimal on purpose: here an ancestor is a prefix, which Lua can
// compare, and no 64-bit number has to go through a double. The point must be
// valid: H3 itself makes a cell of latitude 200 without complaint. About 400 ns.
func CellOf(p Point) string {
	cell, err := h3.LatLngToCell(h3.LatLng{Lat: p.lat, Lng: p.lng}, cellResolution)
	if err != nil || !p.set {
		return ""
	}
	return cellText(cell)
}

// cellText takes the digits out of an index: seven bits of base cell from bit
// 45, then three a resolution.
func cellText(cell h3.Cell) string {
	var b [cellLen]byte
	base := strconv.AppendUint(b[:0], 1000+uint64(cell)>>45&0x7f, 10)
	text := append(b[:0], base[1:]...)
	for r := 1; r <= cellResolution; r++ {
		text = append(text, byte('0'+uint64(cell)>>(3*(15-r))&7))
	}
	return string(text)
}
