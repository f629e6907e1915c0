package aws

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type lateOnes int

func (n *lateOnes) LocationEvents(result string, more int) {
	if result == locationLate {
		*n += lateOnes(more)
	}
}

// What has waited for too long is not sent: there is no bus here that could be called.
func TestLocations_late(t *testing.T) {
	t.Parallel()
	var n lateOnes
	NewLocations(nil, &n).send(t.Context(), []location{
		{since: time.Now().Add(-locationAge)}, {since: time.Now().Add(-time.Hour)},
	})
	require.EqualValues(t, 2, n)
}
