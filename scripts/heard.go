package scripts

import (
	"strings"
	"time"

	"doorstep/sessions"
)

// heardFor is how long a message stands for a read: two fixes of a phone. The
// hash it tells of may expire, and nothing is published then; so a reader asks
// again long before that matters.
const heardFor = 10 * time.Second

// heard is a journey as the last message on its channel told it.
type heard struct {
	snap    sessions.Snapshot
	started time.Time
	at      time.Time // here
}

// Heard keeps the contract of sessions.Live: what the journey's channel last
// told, while it is subscribed to. It costs a look into a map.
func (s *Store) Heard(ref sessions.Ref) (sessions.Snapshot, bool) {
	h := s.watch.heard(liveChannel(ref))
	if h == nil || time.Since(h.at) >= s.heardFor(h) {
		return sessions.Snapshot{}, false
	}
	return h.snap, true
}

// heardFor is less than the constant where the hash will not live as long.
func (s *Store) heardFor(h *heard) time.Duration {
	hour := h.started.Add(s.opts.Live.JourneyTTL).Sub(h.snap.Location.At)
	return min(heardFor, s.opts.Live.LocationTTL, hour)
}

// hear reads a message, whose form is in the header of update.lua. Nil where it
// only says that something has changed, as those of a start and an end do.
func hear(message string) *heard {
	var text [hashFields]string
	var arriving string
	text[hashSeq], message, _ = strings.Cut(message, " ")
	arriving, message, _ = strings.Cut(message, " ")
	text[hashTo], message = cutWords(message, 4)
	text[hashFix], text[hashMark] = cutWords(message, 7)
	if text[hashMark] == "" {
		return nil
	}
	if arriving == "0" {
		text[hashFence] = "not reached"
	}
	snap, startedMS, err := journeyOf(&text)
	if err != nil || snap.Location == nil {
		return nil // somebody else has published; the read will tell
	}
	return &heard{snap: snap, started: instant(startedMS), at: time.Now()}
}

// cutWords splits text behind its first n words; where there are no more, the
// rest is empty.
func cutWords(text string, n int) (words, rest string) {
	end := 0
	for range n {
		next := strings.IndexByte(text[end:], ' ')
		if next < 0 {
			return text, ""
		}
		end += next + 1
	}
	return text[:end-1], text[end:]
}
