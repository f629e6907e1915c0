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

// pushService is a double of FCM: it issues a token and takes messages, or
// answers nothing while it is away. Safe for concurrent use.
type pushService struct {
	http *httptest.Server

	mu     sync.Mutex
	back   chan struct{} // closed when it is there again; nil: it is not away
	taken  int
	before int // taken before it was mended
}

func startPushService() *pushService {
	p := &pushService{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.hold(r.Context())
		answerJSON(w, `{"access_token":"of nothing","token_type":"Bearer","expires_in":3600}`)
	})
	mux.HandleFunc("POST /v1/projects/doorstep-chaos/messages:send", func(w http.ResponseWriter, r *http.Request) {
		p.hold(r.Context())
		p.mu.Lock()
		p.taken++
		n := p.taken
		p.mu.Unlock()
		answerJSON(w, fmt.Sprintf(`{"name":"projects/doorstep-chaos/messages/%d"}`, n))
	})
	p.http = httptest.NewServer(mux)
	return p
}

func answerJSON(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, body)
}

func (p *pushService) close() error {
	p.resume()
	p.http.CloseClientConnections()
	p.http.Close()
	return nil
}

func (p *pushService) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = make(chan struct{})
}

func (p *pushService) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back != nil {
		p.before = p.taken
		close(p.back)
		p.back = nil
	}
}

// hold waits while the service is away.
func (p *pushService) hold(ctx context.Context) {
	p.mu.Lock()
	back := p.back
	p.mu.Unlock()
	if back != nil {
		select {
		case <-back:
		case <-ctx.Done():
		}
	}
}

// account writes the file of a service account with a key made for it.
func (p *pushService) account() (path string, err error) {
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
		"client_email": "push@doorstep-chaos.iam.gserviceaccount.com", "client_id": "1", "token_uri": p.http.URL + "/token",
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

// onPushService is a gateway that pushes to the double.
func onPushService(ctx context.Context, s *stage) (*system, error) {
	sys, err := stores(ctx, s)
	if err != nil {
		return nil, err
	}
	sys.push = startPushService()
	s.ends.Add(sys.push.close)
	path, err := sys.push.account()
	if err != nil {
		return nil, err
	}
	s.ends.Add(func() error { return os.Remove(path) })
	return sys, sys.open(ctx, sys.store.URL(), sys.dsn, "FCM_CREDENTIALS="+path, "FCM_ENDPOINT="+sys.push.http.URL+"/")
}

func stopPushes(_ context.Context, sys *system) error   { sys.push.stop(); return nil }
func resumePushes(_ context.Context, sys *system) error { sys.push.resume(); return nil }

// pushedLater checks that pushes that waited were sent after the mending.
func pushedLater(_ context.Context, sys *system, r *row) error {
	p := sys.push
	p.mu.Lock()
	defer p.mu.Unlock()
	r.check(p.before > 0 && p.taken > p.before, "pushes: %d before it was mended, %d after", p.before, p.taken)
	r.Saw += fmt.Sprintf("; %d pushes, of which %d after", p.taken, p.taken-p.before)
	return nil
}
