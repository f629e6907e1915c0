package geo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// TrackText is a Track, less its Last, as fields of the journey's hash:
// words with spaces between, degrees as the hash has them, all else integers.
// Each stays under 64 bytes, past which Valkey gives up the compact form of a
// hash, and is "" while there is nothing to remember. An ordinary fix writes none
// of them; once a minute it writes Mark, MarkMS and Pace. The time of the mark
// stands alone because every fix compares it, and nothing else of the mark.
type TrackText struct {
	Rival string // votes lat lng accuracy_dm at_ms recorded_ms
	Mark  string // lat lng accuracy_dm recorded_ms
	Odd   string // fast_ms reanchored_ms still_ms mismatches
	Pace  string // pace_mms paced_ms
	// MarkMS is a plain number; "" = no mark.
	MarkMS string
}

var errTrackText = errors.New("geo: malformed track text")

// Text writes a track.
func (t Track) Text() TrackText {
	text := TrackText{
		Odd:    numbers(t.FastMS, t.ReanchoredMS, t.StillMS, t.Mismatches),
		Pace:   numbers(t.PaceMMS, t.PacedMS),
		MarkMS: numbers(t.Mark.AtMS),
	}
	if r := t.Rival; t.Votes > 0 {
		text.Rival = numbers(t.Votes) + " " + r.Point.text() + " " + join(r.AccuracyDM, r.AtMS, r.RecordedMS)
	}
	if m := t.Mark; m.Point.Valid() {
		text.Mark = m.Point.text() + " " + join(m.AccuracyDM, m.RecordedMS)
	}
	return text
}

func (p Point) text() string { return string(p.AppendLng(append(p.AppendLat(nil), ' '))) }

// numbers joins integers with spaces; "" if all are 0.
func numbers(values ...int64) string {
	for _, v := range values {
		if v != 0 {
			return join(values...)
		}
	}
	return ""
}

func join(values ...int64) string {
	var b []byte
	for _, v := range values {
		b = append(strconv.AppendInt(b, v, 10), ' ')
	}
	return string(b[:len(b)-1])
}

// Track reads what Text wrote; last, the live fix, has fields of its own.
func (x TrackText) Track(last Sighting) (Track, error) {
	t := Track{Last: last}
	odd, pace, markMS := words{text: x.Odd}, words{text: x.Pace}, words{text: x.MarkMS}
	t.FastMS, t.ReanchoredMS, t.StillMS, t.Mismatches = odd.integer(), odd.integer(), odd.integer(), odd.integer()
	t.PaceMMS, t.PacedMS = pace.integer(), pace.integer()
	rival, mark := words{text: x.Rival}, words{text: x.Mark}
	if x.Rival != "" {
		t.Votes = rival.integer()
		t.Rival = Sighting{rival.point(), rival.integer(), rival.integer(), rival.integer()}
	}
	if x.Mark != "" {
		t.Mark = Sighting{mark.point(), mark.integer(), markMS.integer(), mark.integer()}
	}
	if err := errors.Join(odd.end(), pace.end(), markMS.end(), rival.end(), mark.end()); err != nil {
		return Track{}, err
	}
	return t, nil
}

// words takes a text apart and keeps the first error. The empty text is as many
// zeros as are asked for.
type words struct {
	text string
	err  error
}

func (w *words) next() string {
	word, rest, _ := strings.Cut(w.text, " ")
	w.text = rest
	return word
}

func (w *words) integer() int64 {
	if w.text == "" && w.err == nil {
		return 0
	}
	v, err := strconv.ParseInt(w.next(), 10, 64)
	w.keep(err)
	return v
}

func (w *words) point() Point {
	lat, err1 := strconv.ParseFloat(w.next(), 64)
	lng, err2 := strconv.ParseFloat(w.next(), 64)
	p, err3 := NewPoint(lat, lng)
	w.keep(errors.Join(err1, err2, err3))
	return p
}

func (w *words) keep(err error) {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("%w: %w", errTrackText, err)
	}
}

// end is the first error, or that something was left over.
func (w *words) end() error {
	if w.err == nil && w.text != "" {
		return fmt.Errorf("%w: too many words", errTrackText)
	}
	return w.err
}
