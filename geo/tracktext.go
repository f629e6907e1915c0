package geo

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// TrackText is a Track, less its Last, as four fields of the journey's hash:
// integers with spaces between. Each stays under 64 bytes, past which Valkey
// gives up the compact form of a hash, and is "" while there is nothing to
// remember, so that an ordinary fix writes Pace alone, and Mark once a minute.
type TrackText struct {
	Rival string // votes lat7 lng7 accuracy_dm at_ms recorded_ms
	Mark  string // lat7 lng7 accuracy_dm at_ms recorded_ms
	Odd   string // fast_ms reanchored_ms still_ms mismatches
	Pace  string // pace_mms paced_ms
}

var errTrackText = errors.New("geo: malformed track text")

// Text writes a track; lat7 and lng7 are degrees times 10^7, which is what a
// Point holds exactly.
func (t Track) Text() TrackText {
	text := TrackText{
		Odd:  ints(t.FastMS, t.ReanchoredMS, t.StillMS, t.Mismatches),
		Pace: ints(t.PaceMMS, t.PacedMS),
	}
	if t.Votes > 0 {
		text.Rival = ints(t.Votes) + " " + t.Rival.text()
	}
	if t.Mark.Point.Valid() {
		text.Mark = t.Mark.text()
	}
	return text
}

func (s Sighting) text() string {
	return ints(int64(math.Round(s.Point.lat*1e7)), int64(math.Round(s.Point.lng*1e7)), s.AccuracyDM, s.AtMS, s.RecordedMS)
}

// ints joins numbers with spaces; "" if all are 0.
func ints(values ...int64) string {
	var b []byte
	some := false
	for i, v := range values {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, v, 10)
		some = some || v != 0
	}
	if !some && len(values) != 5 { // five zeros are a sighting at 0,0
		return ""
	}
	return string(b)
}

// Track reads what Text wrote; last, the live fix, has fields of its own.
func (x TrackText) Track(last Sighting) (Track, error) {
	t := Track{Last: last}
	odd, err1 := parseInts(x.Odd, 4)
	pace, err2 := parseInts(x.Pace, 2)
	rival, err3 := parseInts(x.Rival, 6)
	mark, err4 := parseInts(x.Mark, 5)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Track{}, err
	}
	t.FastMS, t.ReanchoredMS, t.StillMS, t.Mismatches = odd[0], odd[1], odd[2], odd[3]
	t.PaceMMS, t.PacedMS = pace[0], pace[1]
	var err error
	if x.Rival != "" {
		t.Votes = rival[0]
		t.Rival, err = sightingOf(rival[1:])
	}
	if x.Mark != "" && err == nil {
		t.Mark, err = sightingOf(mark)
	}
	if err != nil {
		return Track{}, err
	}
	return t, nil
}

// parseInts reads exactly n numbers; "" is n zeros.
func parseInts(text string, n int) ([]int64, error) {
	values := make([]int64, n)
	if text == "" {
		return values, nil
	}
	words := strings.Split(text, " ")
	if len(words) != n {
		return nil, fmt.Errorf("%w: %d numbers, not %d", errTrackText, len(words), n)
	}
	for i, word := range words {
		v, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: a field that is no number", errTrackText)
		}
		values[i] = v
	}
	return values, nil
}

func sightingOf(v []int64) (Sighting, error) {
	p, err := NewPoint(float64(v[0])/1e7, float64(v[1])/1e7)
	return Sighting{Point: p, AccuracyDM: v[2], AtMS: v[3], RecordedMS: v[4]}, err
}
