package budgettest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStage_Over(t *testing.T) {
	t.Parallel()
	s := Stage{Name: "decode", Units: 2, Allocs: 3}
	assert.Empty(t, s.over(2, 3))
	assert.Equal(t, []string{"decode takes 2.50 units, budget 2.00"}, s.over(2.5, 3))
	assert.Equal(t, []string{"decode allocates 4 times, budget 3"}, s.over(1, 4))
	assert.Len(t, s.over(3, 4), 2)
	assert.Empty(t, Stage{Allocs: -1}.over(1000, 1000), "no limits")
	assert.Len(t, Stage{}.over(1000, 1), 1, "no allocation is a limit, too")
}

// Ten times the work is ten units, on a machine that others use as well: the
// bounds are wide, and still tell it from one.
func TestTimesOf(t *testing.T) {
	t.Parallel()
	sum := 0
	work := func(n int) func() {
		return func() {
			for i := range n {
				sum += i ^ sum<<1
			}
		}
	}
	times := timesOf(work(10_000), work(1000))
	assert.Greater(t, times, 3.0)
	assert.Less(t, times, 30.0)
}
