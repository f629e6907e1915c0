package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
)

// company is a double of the one that carries pushes to phones: it hands out a
// token and takes messages, or, while it is away, answers nothing.
type company struct {
	http *httptest.Server

	mu    sync.Mutex
	gone  bool
	back  chan struct{} // closed when it is there again
	taken int
}

func openCompany() *company {
	c := &company{back: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", c.token)
	mux.HandleFunc("POST /v1/projects/doorstep-chaos/messages:send", c.take)
	c.http = httptest.NewServer(mux)
	return c
}

func (c *company) close() error {
	c.away(false)
	c.http.CloseClientConnections()
	c.http.Close()
	return nil
}

func (c *company) away(gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone = gone; !gone {
		close(c.back)
		c.back = make(chan struct{})
	}
}

// hold waits while the company is away.
func (c *company) hold(ctx context.Context) {
	c.mu.Lock()
	gone, back := c.gone, c.back
	c.mu.Unlock()
	if gone {
		select {
		case <-back:
		case <-ctx.Done():
		}
	}
}

func (c *company) token(w http.ResponseWriter, r *http.Request) {
	c.hold(r.Context())
	answer(w, `{"access_token":"of nothing","token_type":"Bearer","expires_in":3600}`)
}

func (c *company) take(w http.ResponseWriter, r *http.Request) {
	c.hold(r.Context())
	c.mu.Lock()
	c.taken++
	n := c.taken
	c.mu.Unlock()
	answer(w, fmt.Sprintf(`{"name":"projects/doorstep-chaos/messages/%d"}`, n))
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, body)
}

func (c *company) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// account writes the file of a service account with a key made for it.
func (c *company) account() (path string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "doorstep-chaos", "private_key_id": "1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "push@doorstep-chaos.iam.gserviceaccount.com", "client_id": "1", "token_uri": c.http.URL + "/token",
	})
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "doorstep-chaos-*.json")
	if err != nil {
		return "", err
	}
	_, err = file.Write(text)
	return file.Name(), errors.Join(err, file.Close())
}

// pushAway: journeys do not notice, and what is still true is pushed later.
func pushAway() fault {
	var c *company
	var held int
	return fault{
		name: "push-away", what: "push service answers nothing", during: asEver(),
		sets: func(ctx context.Context, s *stage) (t *set, err error) {
			c = openCompany()
			s.onEnd(c.close)
			path, err := c.account()
			if err != nil {
				return nil, err
			}
			s.onEnd(func() error { return os.Remove(path) })
			t, err = onServers(ctx, s, nil, "FCM_CREDENTIALS="+path, "FCM_ENDPOINT="+c.http.URL+"/")
			if err == nil {
				t.devices = true
			}
			return t, err
		},
		breaks: func(context.Context, *set) error { c.away(true); return nil },
		mends:  func(context.Context, *set) error { held = c.count(); c.away(false); return nil },
		checks: []func(context.Context, *set, *row) error{func(_ context.Context, _ *set, r *row) error {
			r.check(held > 0 && c.count() > held, "pushes: %d before it was mended, %d after", held, c.count())
			r.Saw += fmt.Sprintf("; %d pushes, of which %d after", c.count(), c.count()-held)
			return nil
		}},
	}
}
