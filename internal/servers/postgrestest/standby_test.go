package postgrestest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was committed before the primary died is there after the promotion.
func TestServer_Standby(t *testing.T) {
	t.Parallel()
	primary := Private(t)
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	require.NoError(t, primary.execute(t.Context(), "CREATE TABLE kept (id int)"))
	require.ErrorContains(t, standby.execute(t.Context(), "DROP TABLE kept"), "25006", "it takes no writes")
	require.NoError(t, primary.Kill())
	require.NoError(t, standby.Promote(t.Context()))
	assert.NoError(t, standby.execute(t.Context(), "DROP TABLE kept"))
}
