package demo

import (
	"time"
)

// pushes gives the titles of what was pushed to a session's student, oldest
// first. Without a push service the gateway keeps them to be shown.
func (b *backend) pushes(session string) []string {
	var titles []string
	for _, shown := range b.app.Pushes() {
		if string(shown.SessionID) == session {
			titles = append(titles, shown.Title)
		}
	}
	return titles
}

// tellPushes says what the student's phone would have shown. The last of them
// is on its way while the journey ends, so it may take a moment. Never a body:
// one of them holds the code.
func (j *journey) tellPushes() {
	if j.pushes == nil {
		return
	}
	const wanted = 2 // that it has begun, and how it ended
	var titles []string
	for range 20 {
		if titles = j.pushes(j.session); len(titles) >= wanted {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, title := range titles {
		j.sayf("pushed to the student: %s", title)
	}
	j.report.count(func(t *totals) { t.pushed += len(titles) })
}
