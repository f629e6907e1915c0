package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
	"doorstep/sessions"
)

// trackers keeps the trackUrl of each session's webhook.
type trackers struct {
	*httptest.Server
	urls sync.Map
}

func openTrackers(t testing.TB) *trackers {
	t.Helper()
	r := &trackers{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var hook struct{ Data map[string]any }
		if json.NewDecoder(req.Body).Decode(&hook) == nil && hook.Data["trackUrl"] != nil {
			r.urls.Store(hook.Data["sessionId"], hook.Data)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// track waits for the webhook of a session's start, and returns the token in it.
func (r *trackers) track(t testing.TB, v visit) string {
	t.Helper()
	var data map[string]any
	until(t, func() bool {
		got, ok := r.urls.Load(string(v.id))
		data, _ = got.(map[string]any)
		return ok
	}, "the webhook")
	require.NotContains(t, data, "linkId")
	_, token, found := strings.Cut(data["trackUrl"].(string), "/t#")
	require.True(t, found)
	return token
}

// A start can make a link. Its URL is in the event that is published, and in no table.
func TestShare_of_an_event(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b backend) {
		r := openTrackers(t)
		h := open(t, b, func(o *app.Options) {
			o.ShareLinks, o.ShareLinksKey = "event", "a key of share links, 32 bytes or more"
			o.WebhookURL, o.WebhookSecrets, o.WebhookAllowPrivate = r.URL, []string{"whsec_bm9ib2R5IHVzZXMgdGhpcyBzZWNyZXQgZm9yIHJlYWw="}, true
		})
		v := h.book(t)
		for range sessions.MaxShareLinks {
			h.share(t, v)
		}
		h.post(t, v.trainer, v.path("start-journey"), nil).want(t, 201, "")
		token := r.track(t, v)
		h.watch(t, token).want(t, 200, "")
		assert.Len(t, h.get(t, v.student, v.links()).data()["links"], sessions.MaxShareLinks+1)
		if h.databaseURL != "" {
			conn, err := pgx.Connect(t.Context(), h.databaseURL)
			require.NoError(t, err)
			defer func() { _ = conn.Close(t.Context()) }()
			var kept string
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT concat((SELECT string_agg(o::text, '') FROM outbox o),
				(SELECT string_agg(d::text, '') FROM outbox_deliveries d), (SELECT string_agg(l::text, '') FROM share_links l))`).Scan(&kept))
			assert.Contains(t, kept, "linkId")
			assert.NotContains(t, kept, token)
		}
		h.post(t, v.trainer, v.path("stop-journey"), nil).want(t, 200, "")
		h.gone(t, token)
	})
}
