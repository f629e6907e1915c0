// Package privacy proves by a search that no place is kept. Places that occur
// nowhere else go through a real gateway on a real Valkey and PostgreSQL. One
// second after each journey's end they are not in the live store, logs, metrics,
// events, pushes or any column of the database but the one for homes.
package privacy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"doorstep/geo"
)

// Canary is a place that must not be found. Its degrees should have seven decimals,
// with digits that nothing else prints.
type Canary struct {
	Name     string
	Lat, Lng float64
}

// Streams are the bytes to search, by where they were found.
type Streams map[string][]byte

// Finding is a canary that was found.
type Finding struct {
	Stream, Canary, Form string
	Near                 string // what stands around it
}

// String is the finding on one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s is in %s, as %s: %q", f.Canary, f.Stream, f.Form, f.Near)
}

// Search looks for every form of every canary in every stream, in the order of the
// streams' names.
func Search(streams Streams, canaries []Canary) (found []Finding) {
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		for _, c := range canaries {
			for _, f := range c.forms() {
				if at := bytes.Index(streams[name], f.bytes); at >= 0 {
					found = append(found, Finding{name, c.Name, f.what, around(streams[name], at)})
				}
			}
		}
	}
	return found
}

func around(text []byte, at int) string {
	return string(text[max(0, at-40):min(len(text), at+40)])
}

type form struct {
	what  string
	bytes []byte
}

// forms are the ways to write a place: digits cut or rounded to five decimals (a
// metre) or more, ten millionths of a degree, bytes, and H3 cells of half a
// kilometre or less.
func (c Canary) forms() []form {
	var all []form
	for _, degrees := range []float64{math.Abs(c.Lat), math.Abs(c.Lng)} {
		text := strconv.FormatFloat(degrees, 'f', 7, 64)
		all = append(
			all,
			form{"digits", []byte(text[:len(text)-2])},
			form{"rounded digits", strconv.AppendFloat(nil, degrees, 'f', 5, 64)},
			form{"more rounded digits", strconv.AppendFloat(nil, degrees, 'f', 6, 64)},
			form{"an integer", []byte(strings.ReplaceAll(text, ".", ""))},
		)
	}
	for _, degrees := range []float64{c.Lat, c.Lng} {
		all = append(all, inBytes("a double", math.Float64bits(degrees))...)
		all = append(all, inBytes("a long", uint64(int64(math.Round(degrees*1e7))))...)
		small := uint32(int32(math.Round(degrees * 1e7)))
		all = append(
			all,
			form{"an int", binary.LittleEndian.AppendUint32(nil, small)},
			form{"an int", binary.BigEndian.AppendUint32(nil, small)},
			form{"a float", binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(degrees)))},
			form{"a float", binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(degrees)))},
		)
	}
	return append(all, c.cells()...)
}

func inBytes(what string, v uint64) []form {
	return []form{
		{what, binary.LittleEndian.AppendUint64(nil, v)},
		{what, binary.BigEndian.AppendUint64(nil, v)},
	}
}

// cells are the H3 cells of resolutions 8 and 9 that contain the place: in package
// geo's digits, of which a prefix is an ancestor, and as H3 writes them.
func (c Canary) cells() []form {
	text := geo.CellOf(geo.MustPoint(c.Lat, c.Lng))
	all := []form{{"a cell", []byte(text[:len(text)-1])}}
	for resolution := 8; resolution <= 9; resolution++ {
		index := h3Index(text, resolution)
		all = append(all, form{"an H3 index", []byte(strconv.FormatUint(index, 16))}, form{"an H3 index", []byte(strconv.FormatUint(index, 10))})
		all = append(all, inBytes("an H3 index", index)...)
	}
	return all
}

// h3Index makes H3's index from package geo's digits: mode 1, the resolution, seven
// bits of base cell, then three bits for each resolution, 7 where it is finer than
// the cell.
func h3Index(text string, resolution int) uint64 {
	base, _ := strconv.ParseUint(text[:3], 10, 64)
	index := uint64(1)<<59 | uint64(resolution)<<52 | base<<45
	for r := 1; r <= 15; r++ {
		digit := uint64(7)
		if r <= resolution {
			digit = uint64(text[2+r] - '0')
		}
		index |= digit << (3 * (15 - r))
	}
	return index
}

var (
	uuids    = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	instants = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?`)
)

// HasCode reports whether a text has a code as a word of its own. It ignores ids and
// instants, which contain any four digits sooner or later.
func HasCode(text []byte, code string) bool {
	text = instants.ReplaceAll(uuids.ReplaceAll(text, nil), nil)
	return regexp.MustCompile(`(^|[^0-9.])` + code + `($|[^0-9.])`).Match(text)
}
