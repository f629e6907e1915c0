package trace

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"doorstep/geo"
)

// MaxFixes bounds what Read takes into memory: twelve days at one fix a second.
const MaxFixes = 1 << 20

// kmhPerMPS turns a receiver's metres per second into the km/h of the API.
const kmhPerMPS = 3.6

// Fix is one row of a recording: where it stood in the file, and the fix with
// the recording's clock in RecordedMS.
type Fix struct {
	Seq int
	geo.Fix
}

// Read parses a recording: CSV with a header that names at least unix_ms, lat
// and lng, and may name seq, accuracy_m, speed_mps and heading_deg, in any
// order; columns it does not know are skipped. An empty or non-positive
// optional field means that the receiver had none (speed and heading may be 0).
// Rows come back in file order, uncleaned. The first malformed row ends it,
// with its line in the error.
func Read(r io.Reader) ([]Fix, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("trace: header: %w", err)
	}
	columns, err := nameColumns(header)
	if err != nil {
		return nil, err
	}
	return columns.rows(in)
}

// column says where a field stands in a row; -1 = the recording has none.
type column struct{ seq, unixMS, lat, lng, accuracyM, speedMPS, headingDeg int }

func nameColumns(header []string) (column, error) {
	c := column{-1, -1, -1, -1, -1, -1, -1}
	place := map[string]*int{
		"seq": &c.seq, "unix_ms": &c.unixMS, "lat": &c.lat, "lng": &c.lng,
		"accuracy_m": &c.accuracyM, "speed_mps": &c.speedMPS, "heading_deg": &c.headingDeg,
	}
	for i, name := range header {
		if at, known := place[strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))]; known {
			*at = i
		}
	}
	if c.unixMS < 0 || c.lat < 0 || c.lng < 0 {
		return c, errors.New("trace: the header must name unix_ms, lat and lng")
	}
	return c, nil
}

func (c column) rows(in *csv.Reader) ([]Fix, error) {
	var fixes []Fix
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return fixes, nil
		}
		if err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
		if len(fixes) == MaxFixes {
			return nil, fmt.Errorf("trace: more than %d rows", MaxFixes)
		}
		fix, err := c.fix(row, len(fixes))
		if err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("trace: line %d: %w", line, err)
		}
		fixes = append(fixes, fix)
	}
}

func (c column) fix(row []string, seq int) (Fix, error) {
	var p parser
	fix := Fix{Seq: seq}
	if c.seq >= 0 {
		fix.Seq = int(p.integer(row, c.seq))
	}
	fix.RecordedMS = p.integer(row, c.unixMS)
	lat, lng := p.number(row, c.lat), p.number(row, c.lng)
	if accuracy, known := p.optional(row, c.accuracyM).Get(); known && accuracy > 0 {
		fix.AccuracyM = accuracy
	}
	if speed, known := p.optional(row, c.speedMPS).Get(); known && speed >= 0 {
		fix.SpeedKMH = geo.Measured(speed * kmhPerMPS)
	}
	if heading, known := p.optional(row, c.headingDeg).Get(); known && heading >= 0 {
		fix.HeadingDeg = geo.Measured(math.Mod(heading, 360))
	}
	if p.err != nil {
		return Fix{}, p.err
	}
	point, err := geo.NewPoint(lat, lng)
	fix.Point = point
	return fix, err
}

// parser keeps the first error, so that a row reads as one list of fields.
type parser struct{ err error }

func (p *parser) integer(row []string, at int) int64 {
	v, err := strconv.ParseInt(strings.TrimSpace(row[at]), 10, 64)
	p.keep(err)
	return v
}

func (p *parser) number(row []string, at int) float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(row[at]), 64)
	if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		err = fmt.Errorf("%q is not finite", row[at])
	}
	p.keep(err)
	return v
}

func (p *parser) optional(row []string, at int) geo.Reading {
	if at < 0 || strings.TrimSpace(row[at]) == "" {
		return geo.Reading{}
	}
	return geo.Measured(p.number(row, at))
}

func (p *parser) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Thin keeps the first fix and then each one that is cadence or more after the
// last kept: what a phone that reports at most that often would have sent. The
// result is a new slice.
func Thin(fixes []Fix, cadence time.Duration) []Fix {
	if len(fixes) == 0 {
		return nil
	}
	kept := []Fix{fixes[0]}
	for _, f := range fixes[1:] {
		if f.RecordedMS-kept[len(kept)-1].RecordedMS >= cadence.Milliseconds() {
			kept = append(kept, f)
		}
	}
	return kept
}
