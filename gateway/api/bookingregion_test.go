package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

func TestGateway_region_of_a_booking(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		h := open(t, b, func(o *app.Options) { o.Region = "eu" })
		v := h.book(t)
		patch := func(region any) answer {
			body, err := jsonOf(map[string]any{"region": region})
			require.NoError(t, err)
			return h.do(t, http.MethodPatch, v.admin, v.path(""), body)
		}
		require.NotContains(t, h.get(t, v.student, v.path("")).want(t, 200, "").data(), "region")
		for _, bad := range []string{"mars", "EU", ""} {
			booking := v.booking()
			booking["region"] = bad
			require.Equal(t, "region", h.post(t, v.admin, base+"/admin/sessions", booking).want(t, 400, sessions.InvalidRequest).fields["field"])
			require.Equal(t, "region", patch(bad).want(t, 400, sessions.InvalidRequest).fields["field"])
		}
		require.NotContains(t, patch(nil).want(t, 200, "").data(), "region")
		require.Equal(t, "eu", patch("eu").want(t, 200, "").data()["region"])

		booking := h.book(t).booking()
		booking["sessionId"], booking["region"] = sessions.NewID(), "eu"
		require.Equal(t, "eu", h.post(t, v.admin, base+"/admin/sessions", booking).want(t, 201, "").data()["region"])

		started := h.begun(t)
		require.Equal(t, "eu", h.get(t, started.student, started.path("")).want(t, 200, "").data()["region"])
		h.post(t, started.admin, base+"/admin/sessions", started.booking()).want(t, 200, "")
	})
}

func TestGateway_region_without_regions(t *testing.T) {
	t.Parallel()
	h := open(t, embedded)
	v := h.book(t)
	booking := v.booking()
	booking["region"] = "eu"
	require.Equal(t, "region", h.post(t, v.admin, base+"/admin/sessions", booking).want(t, 400, sessions.InvalidRequest).fields["field"])
}
