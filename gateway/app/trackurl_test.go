package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
)

// The event of a start has a share link's URL on the bus, as its schema says, where that
// is asked for.
func TestApp_trackUrl_on_the_bus(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	s := awstest.Start()
	defer s.Close()
	s.Bus("application-events")
	for mode, want := range map[string]bool{"event": true, "off": false} {
		a := started(t, settings(func(o *app.Options) {
			o.EventBus, o.EventBridgeEndpoint, o.Pages, o.ShareLinks = "application-events", s.URL(), true, mode
		}))
		id := journey(t, a)
		detail := ""
		require.Eventually(t, func() bool {
			for _, entry := range s.Events() {
				if entry.DetailType == string(sessions.JourneyStarted) && strings.Contains(entry.Detail, string(id)) {
					detail = entry.Detail
				}
			}
			return detail != ""
		}, patience, 5*time.Millisecond)
		require.NoError(t, readSchema(t, sessions.JourneyStarted).check([]byte(detail)))
		require.Equal(t, want, strings.Contains(detail, `"trackUrl":"http://`+a.Addr().String()+`/t#`), detail)
	}
}
