package demo

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTotals_summary(t *testing.T) {
	t.Parallel()
	r := newReport()
	r.count(func(t *totals) {
		t.sent[labelStored], t.sent["400 IMPLAUSIBLE_SPEED"], t.sent[labelVague] = 41234, 1200, 7
		t.stored, t.seen, t.overtaken, t.failures, t.started = 41234, 41230, 12, 3, 9
		t.ended[Verified], t.ended[Stopped], t.ended[Interrupted] = 5, 3, 1
		t.why["NOT_WITHIN_RADIUS"], t.why["NO_FRESH_LOCATION"] = 2, 1
		t.fixToEye.add(1200 * time.Microsecond)
		t.fixToEye.add(41 * time.Millisecond)
	})
	want := `  played      9 journeys
              live store: in memory
  took        1m2.3s
  journeys    5 verified
              3 stopped, not let in at the door: 2 NOT_WITHIN_RADIUS, 1 NO_FRESH_LOCATION
              1 interrupted
  fixes       42 441 answered, 12 never sent (a newer one was due)
                 41 234  stored
                  1 200  400 IMPLAUSIBLE_SPEED
                      7  201 ignored: low_accuracy
              3 requests without an answer
  fix to eye  p50 1.2 ms, p99 41 ms, longest 41 ms (41 230 seen, 41 234 answered as stored)
  events      9 TrainerJourneyStarted, 8 TrainerJourneyEnded (5 arrived, 3 cancelled)
  unexplained nothing
`
	now := r.now()
	assert.Equal(t, want, now.summary([]string{"9 journeys", "live store: in memory"}, 62345*time.Millisecond))
	assert.Equal(t, 1207, now.refused())
}

func TestTotals_summary_of_what_nothing_explains(t *testing.T) {
	t.Parallel()
	r := newReport()
	for i := range 12 {
		r.unexplained(fmt.Sprintf("fault %d", i))
	}
	text := r.now().summary([]string{"x"}, 0)
	assert.Contains(t, text, "  unexplained fault 0\n              fault 1\n")
	assert.Contains(t, text, "              fault 9\n              and 2 more\n")
	assert.Contains(t, text, "  journeys    none ended\n")
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		assert.Equal(t, want, thousands(n))
	}
}
