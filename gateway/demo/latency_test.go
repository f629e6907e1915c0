package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLatencies_quantile(t *testing.T) {
	t.Parallel()
	var l latencies
	assert.Zero(t, l.quantile(.5))
	for i := 1; i <= 1000; i++ {
		l.add(time.Duration(i) * time.Millisecond)
	}
	assert.InEpsilon(t, 500*time.Millisecond, l.quantile(.5), .03)
	assert.InEpsilon(t, 990*time.Millisecond, l.quantile(.99), .03)
	assert.Equal(t, time.Second, l.quantile(1))
	assert.Equal(t, time.Second, l.max)
}

func TestLatencies_takes_anything(t *testing.T) {
	t.Parallel()
	var l latencies
	l.add(-time.Second)
	l.add(0)
	l.add(time.Nanosecond)
	assert.LessOrEqual(t, l.quantile(1), latencyFloor)
	l.add(time.Hour)
	assert.InEpsilon(t, time.Minute, l.quantile(1), .05, "the last bucket")
	assert.Equal(t, time.Hour, l.max)
}
