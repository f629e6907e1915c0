package figures

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/load/drive"
)

func TestFacts(t *testing.T) {
	t.Parallel()
	h := drive.NewHistogram()
	require.NoError(t, h.RecordValue(2000))
	f := FactsOf(drive.Result{Counts: map[string]int64{"update 429": 3, "update 201": 1}, Latencies: map[string]*drive.Histogram{drive.Update: h}},
		[]Cost{{Name: "gateway", CPU: time.Second, Core: 0.25}})
	assert.InDelta(t, 3, f[Failures], 0)
	assert.InDelta(t, 2, f[UpdateP99MS], 0.01)
	assert.Zero(t, f[SightP99MS])
	assert.InDelta(t, 25, f[GatewayCore], 1e-9)

	dir := t.TempDir()
	require.NoError(t, f.Save(dir, "pace"))
	nothing := 0.0
	require.NoError(t, Facts{"ratio": 1 / nothing, "growth": nothing / nothing, "one": 1}.Save(dir, "odd"))
	odd, err := ReadFacts(dir, "odd")
	require.NoError(t, err)
	assert.Equal(t, Facts{"one": 1}, odd)
	again, err := ReadFacts(dir, "pace")
	require.NoError(t, err)
	assert.Equal(t, f, again)
	_, err = ReadFacts(dir, "flood")
	require.Error(t, err)
}
