package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"doorstep/sessions"
)

// visitors is what the pages in a browser need beside the gateway: an OpenID Connect
// issuer at which one chooses whom to be, and an address at which a page reports that
// it was opened, and that it has painted a fix. For this machine only.
type visitors struct {
	base    string // http://host:port
	gateway string // whose pages people are sent back to
	people  []person
	token   func(sessions.Caller) (string, error)
	painted func(recorded time.Time)
	opened  chan struct{} // closed when a page was opened first

	server *http.Server
	once   sync.Once
	mu     sync.Mutex
	grants map[string]grant // by code
}

// person is somebody to be.
type person struct {
	Name string
	sessions.Caller
}

// grant is a sign-in between its code and its token.
type grant struct {
	sessions.Caller
	challenge, redirect string
}

// newVisitors listens on a free port of the loopback address. Serve it with run.
func newVisitors(ctx context.Context, gateway string) (*visitors, net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	v := &visitors{base: "http://" + listener.Addr().String(), gateway: gateway, opened: make(chan struct{}), grants: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", v.configuration)
	mux.HandleFunc("GET /authorize", v.choose)
	mux.HandleFunc("POST /token", v.exchange)
	mux.HandleFunc("POST /painted", v.report)
	v.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return v, listener, nil
}

// run serves until stop.
func (v *visitors) run(listener net.Listener) { _ = v.server.Serve(listener) } // it ends with ErrServerClosed

func (v *visitors) stop() error { return v.server.Close() }

func (v *visitors) configuration(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, map[string]string{
		"issuer": v.base, "authorization_endpoint": v.base + "/authorize", "token_endpoint": v.base + "/token",
	})
}

// chooser begins a page by hand: html/template would make the binary a third larger.
const chooser = `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"><title>Who are you?</title>
<style>body{font:18px/1.5 system-ui,sans-serif;max-width:26rem;margin:8vh auto;padding:0 1rem}a{display:block;padding:.5rem 0}</style>
<h1>Who are you?</h1><p>This is the demo's own sign-in. There are no passwords.</p>
`

// choose shows everybody, each as a link that carries a code back to the page.
func (v *visitors) choose(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect := q.Get("redirect_uri")
	if !strings.HasPrefix(redirect, v.gateway+"/") || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" {
		http.Error(w, "this sign-in is for the demo's own pages", http.StatusBadRequest)
		return
	}
	page := []byte(chooser)
	v.mu.Lock()
	for _, p := range v.people {
		code := rand.Text()
		v.grants[code] = grant{p.Caller, q.Get("code_challenge"), redirect}
		link := redirect + "?code=" + code + "&state=" + url.QueryEscape(q.Get("state"))
		page = fmt.Appendf(page, `<a href="%s">%s</a>`, html.EscapeString(link), html.EscapeString(p.Name))
	}
	v.mu.Unlock()
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page) // whoever asked may have gone
}

// exchange gives the token for a code, once, to whoever began the sign-in.
func (v *visitors) exchange(w http.ResponseWriter, r *http.Request) {
	code := r.FormValue("code")
	v.mu.Lock()
	g, ok := v.grants[code]
	delete(v.grants, code)
	v.mu.Unlock()
	verifier := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(verifier[:]) != g.challenge || r.FormValue("redirect_uri") != g.redirect {
		answerJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	token, err := v.token(g.Caller)
	if err != nil {
		answerJSON(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
		return
	}
	answerJSON(w, http.StatusOK, map[string]string{"access_token": token, "token_type": "Bearer"})
}

func answerJSON(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // the page has another port
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // whoever asked has gone
}

// report takes what a page says: nothing when it was opened, and the time of each fix
// that it has painted.
func (v *visitors) report(w http.ResponseWriter, r *http.Request) {
	v.once.Do(func() { close(v.opened) })
	text, err := io.ReadAll(io.LimitReader(r.Body, 64))
	if recorded, bad := time.Parse(time.RFC3339, string(text)); errors.Join(err, bad) == nil && v.painted != nil {
		v.painted(recorded)
	}
	w.WriteHeader(http.StatusNoContent)
}
