package valkeyconn

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/valkeytest"
	"doorstep/scripts/valkeyconn/flowbuffer"
)

// A program that imports this package uses the flow buffer, unless the environment
// says otherwise. valkey-go reads the environment once, before main, so each case
// runs in a process of its own.
func TestQueue(t *testing.T) {
	if os.Getenv("DOORSTEP_TEST_QUEUE") != "" {
		t.Log("queue " + queueInUse(t))
		return
	}
	t.Parallel()
	for environment, want := range map[string]string{"": "flowBuffer", flowbuffer.Env + "=flowbuffer": "flowBuffer", flowbuffer.Env + "=ring": "ring"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestQueue$", "-test.v")
		cmd.Env = []string{"DOORSTEP_TEST_QUEUE=1", "PATH=" + os.Getenv("PATH")}
		if environment != "" {
			cmd.Env = append(cmd.Env, environment)
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Contains(t, string(out), "queue *valkey."+want+"\n", "with %q", environment)
	}
}

// queueInUse finds the queue that a connected client really has: its first pointer
// to one of the two types.
func queueInUse(t *testing.T) string {
	t.Helper()
	c := connected(t, Options{URL: valkeytest.Valkey(t)})
	require.NoError(t, get(t.Context(), c))
	found := typesIn(reflect.ValueOf(*c.servers.ownerOf(0).client.Load()), 0, map[uintptr]bool{})
	found = slices.DeleteFunc(found, func(name string) bool { return name != "*valkey.ring" && name != "*valkey.flowBuffer" })
	return strings.Join(slices.Compact(found), " ")
}

func typesIn(v reflect.Value, depth int, seen map[uintptr]bool) []string {
	if depth > 12 || !v.IsValid() {
		return nil
	}
	switch v.Kind() {
	case reflect.Interface:
		return typesIn(v.Elem(), depth+1, seen)
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] || !strings.Contains(v.Type().String(), "valkey.") {
			return nil
		}
		seen[v.Pointer()] = true
		return append([]string{v.Type().String()}, typesIn(v.Elem(), depth+1, seen)...)
	case reflect.Slice, reflect.Array:
		var found []string
		for i := range v.Len() {
			found = append(found, typesIn(v.Index(i), depth+1, seen)...)
		}
		return found
	case reflect.Struct:
		var found []string
		for _, field := range v.Fields() {
			found = append(found, typesIn(field, depth+1, seen)...)
		}
		return found
	default:
		return nil
	}
}
