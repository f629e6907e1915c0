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

// The bus, whose archives and queues keep events, has nothing of a start's share link.
// What the webhook has is tested in gateway/api.
func TestApp_no_trackUrl_on_the_bus(t *testing.T) {
	awstest.SetEnv(t.Setenv)
	s := awstest.Start()
	defer s.Close()
	s.Bus("application-events")
	a := started(t, settings(func(o *app.Options) {
		o.EventBus, o.EventBridgeEndpoint, o.Pages, o.ShareLinks = "application-events", s.URL(), true, "event"
		o.WebhookURL, o.WebhookSecrets, o.WebhookAllowPrivate = s.URL(), []string{"whsec_bm9ib2R5IHVzZXMgdGhpcyBzZWNyZXQgZm9yIHJlYWw="}, true
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
	require.NotContains(t, detail, "trackUrl")
	require.NotContains(t, detail, "linkId")
}
