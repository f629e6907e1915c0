package scripts

import (
	"strings"
	"time"

	"doorstep/scripts/valkeyconn"
	"doorstep/sessions"
)

// maxViewAge is how long a message may replace a read: two update intervals of a
// phone. A journey's hash expires without a message, so a reader must ask again
// well before that can matter.
const maxViewAge = 10 * time.Second

// cachedView is a journey as a message described it.
type cachedView struct {
	snap    sessions.Snapshot
	started time.Time
}

// CachedView implements sessions.Live: the journey as the last message on its
// channel described it, while the channel is subscribed to. It makes no call; its
// cost is one look-up in a map.
func (s *Store) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	m, ok := s.conn.LastMessage(liveChannel(ref))
	if !ok {
		return sessions.Snapshot{}, false
	}
	return s.viewAt(m, time.Now())
}

// viewAt returns the journey that a message describes. It returns false if the
// message has no view, or is too old at now. It is too old after maxViewAge, or
// sooner where the journey's hash itself does not live that long.
func (s *Store) viewAt(m valkeyconn.Message, now time.Time) (sessions.Snapshot, bool) {
	v, _ := m.Value.(*cachedView)
	if v == nil {
		return sessions.Snapshot{}, false
	}
	journeyLeft := v.started.Add(s.opts.Live.JourneyTTL).Sub(v.snap.Location.At)
	if now.Sub(m.Received) >= min(maxViewAge, s.opts.Live.LocationTTL, journeyLeft) {
		return sessions.Snapshot{}, false
	}
	snap := v.snap
	snap.Now = snap.Location.At.Add(max(0, now.Sub(m.Received))) // it was published as the fix was accepted
	return snap, true
}

// parseMessage reads a message, whose form is in the header of update.lua. It
// returns nil for a message that says only that something has changed, as the
// messages of a start and of an end do. It runs once for each message, not for
// each reader: it takes 16 allocations, and a change may wake a thousand
// readers.
func parseMessage(message string) *cachedView {
	var text [hashFields]string
	var arriving string
	text[hashSeq], message, _ = strings.Cut(message, " ")
	arriving, message, _ = strings.Cut(message, " ")
	text[hashTo], message = cutWords(message, 5)
	text[hashFix], message = cutWords(message, 7)
	text[hashAnchor], message = cutWords(message, 7)
	if text[hashAnchor] == "" {
		return nil
	}
	if arriving == "0" {
		text[hashFence] = "not reached"
	}
	snap, startedMS, err := journeyOf(&text)
	if err != nil || snap.Location == nil {
		return nil // not a message of our scripts: the next read of the hash returns the error
	}
	if message != "" { // the phone's clock does not agree with the store's
		taken := parser{}
		snap.Location.RecordedAt = taken.instant(taken.integer(message))
		snap.Pace = taken.pace(&text, startedMS, snap.Location)
		if taken.err != nil {
			return nil
		}
	}
	snap.Evidence = sessions.Evidence{} // not in a message
	return &cachedView{snap: snap, started: instant(startedMS)}
}

// cutWords splits text after its first n words. With n words or fewer, the rest
// is empty.
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
