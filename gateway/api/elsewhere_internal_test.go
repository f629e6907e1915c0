package api

import (
	"testing"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/stretchr/testify/require"
)

// net/http may read the body of a call after it has returned. Hertz gives the buffer to the next
// request then, which may be another phone's.
func TestForwardable_has_a_body_of_its_own(t *testing.T) {
	t.Parallel()
	c := app.NewContext(0)
	c.Request.SetRequestURI(updatesPath)
	c.Request.SetBodyString("mine")
	call, err := New(Deps{}).forwardable(c)
	require.NoError(t, err)
	copy(c.Request.Body(), "them")
	require.Equal(t, "mine", string(call.Body))
}
