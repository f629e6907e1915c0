package proxies

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/gateway/app"
)

// page follows a journey by the loop of docs/integrate.md, and reports each answer
// to its own server.
const page = `<!doctype html><title>follow</title><script>
const query = new URLSearchParams(location.search);
const headers = {Authorization: 'Bearer ' + query.get('token')};
const report = seen => fetch('/seen', {method: 'POST', body: JSON.stringify(seen)});
(async () => {
  for (let wait = 0; ; wait = 3) {
    const response = await fetch(query.get('url') + '&wait=' + wait, {headers});
    const etag = response.headers.get('ETag');
    const seen = {status: response.status, etag, requestId: response.headers.get('X-Request-Id')};
    if (response.ok) {
      const data = (await response.json()).data;
      headers['If-None-Match'] = etag;
      seen.active = data.isActive;
      seen.latitude = data.location && data.location.latitude;
    }
    await report(seen);
    if (response.status !== 304 && !seen.active) return;
  }
})().catch(e => report({error: String(e)}));
</script>`

// seen is an answer as the page saw it.
type seen struct {
	Status    int     `json:"status"`
	ETag      string  `json:"etag"`
	RequestID string  `json:"requestId"`
	Active    bool    `json:"active"`
	Latitude  float64 `json:"latitude"`
	Error     string  `json:"error"`
}

// A page of another origin follows a journey in a real browser, through each
// proxy: it sees every fix once, a wait that ends without news as 304, and the end.
func TestBrowser_follows_a_journey_from_another_origin(t *testing.T) {
	t.Parallel()
	answers := make(chan seen, 100)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var s seen
		switch {
		case r.URL.Path != "/seen":
			_, _ = w.Write([]byte(page))
		case json.NewDecoder(r.Body).Decode(&s) == nil:
			answers <- s
		}
	}))
	t.Cleanup(site.Close)
	for _, p := range append([]proxy{{name: "direct"}}, all...) {
		t.Run(p.name, func(t *testing.T) { //nolint:paralleltest // one browser at a time is enough for a machine
			s := begun(t, func(o *app.Options) { o.CORSOrigins = []string{site.URL} })
			target := s.url
			if p.program != "" {
				target = p.start(t, s.addr)
			}
			browse(t, site.URL+"/?token="+s.Student.Token+"&url="+url.QueryEscape(target+s.path()))
			next := func() seen {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				select {
				case a := <-answers:
					require.Empty(t, a.Error)
					return a
				case <-ctx.Done():
					t.Fatal("the page says nothing")
					return seen{}
				}
			}
			first := next()
			require.Equal(t, http.StatusOK, first.Status)
			require.Equal(t, http.StatusNotModified, next().Status, "nothing new for three seconds")
			last := first
			for range 3 {
				s.fix(t)
				now := next()
				require.Equal(t, http.StatusOK, now.Status)
				assert.NotEqual(t, last.ETag, now.ETag)
				assert.Less(t, now.Latitude, last.Latitude, "nearer to home")
				assert.NotEmpty(t, now.RequestID)
				last = now
			}
			require.Equal(t, "200", s.Stop(t.Context(), s.url).Label())
			end := next()
			assert.Equal(t, http.StatusOK, end.Status)
			assert.False(t, end.Active)
		})
	}
}

// browse opens a page in a fresh Chromium, which ends with the test.
func browse(t *testing.T, address string) {
	t.Helper()
	dir := folder(t, "chromium")
	cmd := exec.Command(find(t, "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--remote-debugging-port=0", "--user-data-dir="+dir, address)
	cmd.Env = append(os.Environ(), "HOME="+dir) // nothing of it stays
	run(t, cmd)
}
