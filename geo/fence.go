package geo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/uber/h3-go/v4"
)

// MaxFenceM is the largest radius in metres that Cover accepts. Beyond it a
// cover has thousands of cells of resolution 9.
const MaxFenceM = 5000

const (
	// cellResolution is the finest H3 resolution in use. Its cells are 170 to 225 m
	// from centre to corner, so 150 m around a home touch few of them.
	cellResolution = 9
	// cellLen is the length of a full cell text: three digits of base cell, then
	// one for each resolution.
	cellLen = 3 + cellResolution
	// fenceBytes is the longest fence text. With a field of 64 bytes or more the
	// journey's hash would lose its compact form, the listpack.
	fenceBytes = 63
	// padM makes the cover a little too large instead of a little too small,
	// because the edges of cells and DistanceM are computed by different formulas.
	padM = 1
)

// ErrRadius is returned for a radius that Cover does not accept.
var ErrRadius = errors.New("geo: fence radius must be in (0, 5000] metres")

// CellOf returns the H3 cell of a point at resolution 9, as twelve digits: the
// base cell (000 to 121) and then the child, 0 to 6, at each resolution. It is
// not H3's own hexadecimal form, because here an ancestor is a prefix, which Lua
// can compare, and no 64-bit number has to pass through a double. It is empty
// for an invalid point; H3 itself accepts a latitude of 200. It takes about
// 400 ns.
func CellOf(p Point) string {
	cell, err := h3.LatLngToCell(h3.LatLng{Lat: p.lat, Lng: p.lng}, cellResolution)
	if err != nil || !p.set {
		return ""
	}
	return cellText(cell)
}

// cellText reads the digits of an H3 index: seven bits of base cell from bit 45,
// then three bits for each resolution.
func cellText(cell h3.Cell) string {
	var b [cellLen]byte
	base := strconv.AppendUint(b[:0], 1000+uint64(cell)>>45&0x7f, 10)
	text := append(b[:0], base[1:]...)
	for r := 1; r <= cellResolution; r++ {
		text = append(text, byte('0'+uint64(cell)>>(3*(15-r))&7))
	}
	return string(text)
}

// Fence is the H3 cover of a disc: every point within the radius is in one of
// its cells. It only says where the exact distance has to be computed. When it
// says that a point is outside, that is certain. The zero value may contain any
// point.
type Fence struct{ text string }

// Cover makes the fence of a home. It finds all cells of resolution 9 that the
// disc touches exactly, by the distance to their edges, and writes them at the
// finest resolution that fits. At 150 m these are three or four cells nearly
// everywhere, in 19 bytes at the median and 34 at the 99th percentile (20,000
// random homes); beside a pentagon they are its parents. It runs once a journey
// and takes under 0.1 ms at 150 m. Errors: ErrOutOfRange for an invalid home,
// ErrRadius.
func Cover(home Point, radiusM float64) (Fence, error) {
	if !home.set {
		return Fence{}, ErrOutOfRange
	}
	if !(radiusM > 0 && radiusM <= MaxFenceM) {
		return Fence{}, fmt.Errorf("%w: %v", ErrRadius, radiusM)
	}
	cells, err := touchedCells(home, radiusM+padM)
	if err != nil {
		return Fence{}, fmt.Errorf("cover: %w", err)
	}
	return Fence{fit(cells)}, nil
}

// String returns the form in the store, under 64 bytes: the common beginning of
// all cells and then, each after a comma, their ends, which have one length.
func (f Fence) String() string { return f.text }

// MayContain reports whether a point in this cell (see CellOf) could be inside
// the radius. False is certain. update.lua does the same.
func (f Fence) MayContain(cell string) bool {
	begin, ends, found := strings.Cut(f.text, ",")
	if !found || cell == "" {
		return true
	}
	rest, alike := strings.CutPrefix(cell, begin)
	end, _, _ := strings.Cut(ends, ",")
	return alike && strings.Contains(f.text[len(begin):], ","+rest[:min(len(end), len(rest))])
}

// CrossesFence reports whether the straight way from a to b passes within
// radiusM metres of home: a car may pass a door between two fixes. It sets
// "arriving"; an arrival itself needs a fix inside.
//
// The H3 cover cannot be asked first, because neither end has to be in a cell of
// the cover. The triangle inequality can: the answer is true only if the way is
// longer than the distance from b to the home less the radius. Both numbers are
// known, so the script checks that first and rarely has to do more.
func CrossesFence(a, b, home Point, radiusM float64) bool {
	return segmentM(a, b, home) <= radiusM
}

// fit shortens cells to their ancestors until the text is short enough. Base
// cells alone always are, because at most three of them meet.
func fit(cells []string) string {
	for length := cellLen; ; length-- {
		for i := range cells {
			cells[i] = cells[i][:length]
		}
		slices.Sort(cells)
		cells = slices.Compact(cells)
		if text := fenceText(cells); len(text) <= fenceBytes || length == 3 {
			return text
		}
	}
}

// fenceText writes cells, which are sorted and have one length.
func fenceText(cells []string) string {
	first, last := cells[0], cells[len(cells)-1]
	alike := 0
	for alike < len(first)-1 && first[alike] == last[alike] {
		alike++
	}
	ends := make([]string, len(cells))
	for i, cell := range cells {
		ends[i] = cell[alike:]
	}
	return first[:alike] + "," + strings.Join(ends, ",")
}

// ringM is a safe lower bound of what one ring of cells adds to the radius of a
// disc at resolution 9: the smallest cells, beside the pentagons, are 260 m
// across.
const ringM = 200

// touchedCells lists the cells of resolution 9 within radiusM of home.
func touchedCells(home Point, radiusM float64) ([]string, error) {
	centre, err := h3.LatLngToCell(h3.LatLng{Lat: home.lat, Lng: home.lng}, cellResolution)
	if err != nil {
		return nil, err
	}
	disc, err := centre.GridDisk(2 + int(radiusM/ringM))
	if err != nil {
		return nil, err
	}
	cells := []string{cellText(centre)}
	for _, cell := range disc {
		near, err := within(home, cell, radiusM)
		if err != nil {
			return nil, err
		}
		if near {
			cells = append(cells, cellText(cell))
		}
	}
	return cells, nil
}

// within reports whether a cell's edge comes within radiusM of home. The edges
// are great circles: H3 draws hexagons on the faces of an icosahedron by the
// gnomonic projection, and adds a corner where an edge passes to another face.
func within(home Point, cell h3.Cell, radiusM float64) (bool, error) {
	if !cell.IsValid() { // a disc around a pentagon has gaps
		return false, nil
	}
	corners, err := cell.Boundary()
	if err != nil {
		return false, err
	}
	from := corners[len(corners)-1]
	for _, to := range corners {
		if segmentM(Point{lat: from.Lat, lng: from.Lng}, Point{lat: to.Lat, lng: to.Lng}, home) <= radiusM {
			return true, nil
		}
		from = to
	}
	return false, nil
}
