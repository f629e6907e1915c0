package valkeyconn

import (
	"crypto/rand"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
)

// slotOf computes what a cluster answers.
func TestSlotOf(t *testing.T) {
	t.Parallel()
	server := valkeytest.PrivateWith(t, valkeyserver.Valkey, valkeyserver.Options{Cluster: true})
	keys := []string{"", "foo", "{}", "{}foo", "{foo", "foo}", "{foo}", "a{foo}b{bar}", "{{foo}}", "}{foo}", "123456789"}
	for range 50 {
		keys = append(keys, newKey(), newChannel(), rand.Text())
	}
	for _, key := range keys {
		want, err := server.Do(t.Context(), "CLUSTER", "KEYSLOT", key)
		require.NoError(t, err)
		require.Equal(t, want, strconv.Itoa(int(slotOf(key))), key)
	}
}

func BenchmarkSlotOf(b *testing.B) {
	key := newKey()
	b.ReportAllocs()
	for b.Loop() {
		slotOf(key)
	}
}
