package scripts

import (
	"strings"
	"time"

	"doorstep/sessions"
)

// maxViewAge is how long a message may stand in for a read: the time of two
// fixes of a phone. A journey's hash expires without a message, so a reader must
// ask again well before that can matter.
const maxViewAge = 10 * time.Second

// cachedView is a journey as the last message on its channel described it.
type cachedView struct {
	snap     sessions.Snapshot
	started  time.Time
	received time.Time // by this process's clock
}

// CachedView implements sessions.Live: the journey as the last message on its
// channel described it, while the channel is subscribed to. It makes no call;
// its cost is one look-up in a map.
func (s *Store) CachedView(ref sessions.Ref) (sessions.Snapshot, bool) {
	v := s.watch.lastView(liveChannel(ref))
	if v == nil || time.Since(v.received) >= s.maxAge(v) {
		return sessions.Snapshot{}, false
	}
	return v.snap, true
}

// maxAge is maxViewAge, or less where the hash itself does not live that long.
func (s *Store) maxAge(v *cachedView) time.Duration {
	journeyLeft := v.started.Add(s.opts.Live.JourneyTTL).Sub(v.snap.Location.At)
	return min(maxViewAge, s.opts.Live.LocationTTL, journeyLeft)
}

// parseMessage reads a message, whose form is in the header of update.lua. It
// returns nil for a message that says only that something has changed; those of
// a start and of an end do.
func parseMessage(message string) *cachedView {
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
		return nil // not a message of our scripts: the next read finds out
	}
	return &cachedView{snap: snap, started: instant(startedMS), received: time.Now()}
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
