package radio

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"doorstep/client"
	"doorstep/gateway/app"
	"doorstep/internal/phoneapps"
	"doorstep/internal/servers/certtest"
	"doorstep/internal/testclock"
	"doorstep/sessions"
)

type fix = client.Fix

// wire counts the bytes of connections, from below TLS.
type wire struct{ opened, up, down atomic.Int64 }

type countedConn struct {
	net.Conn
	wire *wire
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.down.Add(int64(n))
	return n, err
}

func (c countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wire.up.Add(int64(n))
	return n, err
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	w.opened.Add(1)
	return countedConn{c, w}, err
}

// stage is a gateway with TLS, and what its phones need.
type stage struct {
	app   *app.App
	clock *testclock.Clock
	files certtest.Files
	trust *tls.Config // of a phone
	fixes int         // of this journey, so far
}

func open(t *testing.T) *stage {
	t.Helper()
	s := &stage{clock: testclock.At(time.Now())}
	var authority []byte
	s.files, authority = certtest.New(t)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	s.trust = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1"}
	var err error
	s.app, err = app.New(app.Options{
		Listen: "127.0.0.1:0", JWTSecret: strings.Repeat("k", 32), TLSCert: s.files.Cert, TLSKey: s.files.Key, PublicURL: "https://127.0.0.1",
		Steer: true, CallerRate: -1, Now: s.clock.Now,
	})
	require.NoError(t, err)
	require.NoError(t, s.app.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.app.Stop(context.WithoutCancel(t.Context()))) })
	return s
}

var home = client.Point{Latitude: 48.2, Longitude: 16.37}

// drive lets the time of n fixes pass and returns them: a car that comes from the north at
// 50 km/h.
func (s *stage) drive(n int) []fix {
	list := make([]fix, n)
	for i := range list {
		s.clock.Advance(interval)
		s.fixes++
		north := 20_000 - 69.4*float64(s.fixes) // metres
		accuracy, speed, heading := 8.5, 50.4, 180.0
		list[i] = fix{
			Point:     client.Point{Latitude: home.Latitude + north/111_195, Longitude: home.Longitude},
			AccuracyM: &accuracy, SpeedKMH: &speed, HeadingDeg: &heading, RecordedAt: s.clock.Now(),
		}
	}
	list[n-1].SentAt = s.clock.Now()
	return list
}

// phone is a trainer's, on a journey of its own.
type phone struct {
	wire    *wire
	http    *http.Client // whose connections wire counts
	session string
	token   string
}

func (s *stage) phone(t *testing.T) phone {
	t.Helper()
	s.fixes = 0
	trainer, student, session := sessions.NewID(), sessions.NewID(), string(sessions.NewID())
	p := phone{wire: &wire{}, session: session, token: s.token(t, trainer, sessions.Trainer)}
	p.http = &http.Client{Transport: &http.Transport{DialContext: p.wire.dial, TLSClientConfig: s.trust}}
	t.Cleanup(p.http.CloseIdleConnections)
	_, err := s.caller(t, s.token(t, sessions.NewID(), sessions.Admin)).Book(t.Context(), client.Booking{
		SessionID: session, TrainerID: string(trainer), StudentID: string(student), StudentHome: home,
	})
	require.NoError(t, err)
	_, err = s.caller(t, p.token).StartJourney(t.Context(), session, client.Car)
	require.NoError(t, err)
	return p
}

func (s *stage) token(t *testing.T, id sessions.ID, role sessions.Role) string {
	t.Helper()
	token, err := s.app.Token(sessions.Caller{ID: id, Role: role}, 24*time.Hour)
	require.NoError(t, err)
	return token
}

func (s *stage) base() string { return "https://" + s.app.Addr().String() }

// caller makes calls that are not counted.
func (s *stage) caller(t *testing.T, token string) *client.Client {
	t.Helper()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: s.trust}}
	t.Cleanup(web.CloseIdleConnections)
	c, err := client.New(client.Options{BaseURL: s.base(), Token: client.StaticToken(token), HTTP: web})
	require.NoError(t, err)
	return c
}

// ours is a phone with package client.
func (s *stage) ours(t *testing.T, name string, n int, o client.Options) way {
	t.Helper()
	p := s.phone(t)
	o.Token, o.HTTP = client.StaticToken(p.token), p.http
	c, err := client.New(o)
	require.NoError(t, err)
	return way{name, n, p.wire, func(t *testing.T, fixes []fix) {
		t.Helper()
		send := func() (client.Receipt, error) { return c.UpdateBatch(t.Context(), p.session, fixes) }
		if n == 1 {
			send = func() (client.Receipt, error) { return c.Update(t.Context(), p.session, fixes[0]) }
		}
		r, err := send()
		require.NoError(t, err)
		require.Equal(t, client.Stored, r.Verdict)
		require.True(t, n == 1 || r.Counts[client.Stored] == n, "%v", r.Counts)
	}}
}

// body is a phone that sends n fixes a request and is answered with a receipt.
func (s *stage) body(n int) func(t *testing.T) way {
	return func(t *testing.T) way {
		t.Helper()
		return s.ours(t, named(n, "a receipt", "a receipt for a batch of %d"), n, client.Options{BaseURL: s.base()})
	}
}

// minimal is one that is answered without a body.
func (s *stage) minimal(n int) func(t *testing.T) way {
	return func(t *testing.T) way {
		t.Helper()
		return s.ours(t, named(n, "`return=minimal`", "`return=minimal`, a batch of %d"), n, client.Options{BaseURL: s.base(), Minimal: true})
	}
}

func named(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}

// asItWas is the answer to an update before it was made shorter, as a gateway of then wrote
// it to package client.
const asItWas = "HTTP/1.1 201 Created\r\nDate: Mon, 30 Nov 2026 11:54:57 GMT\r\nContent-Type: application/json; charset=utf-8\r\n" +
	"Content-Length: 237\r\nCache-Control: no-store\r\nX-Request-Id: 98429218-1d95-4551-b486-9322fe9987d7\r\n\r\n" +
	`{"success":true,"message":"Location updated","data":{"sessionId":"9f1afb60-9397-421c-aad7-80af73431b63",` +
	`"timestamp":"2026-11-30T11:54:58.330Z","ttl":300,"seq":1796039698330,"distanceMeters":12487.2,"arriving":false,"nextUpdateMs":14996}}`

// before is a phone that is answered as it was.
func (s *stage) before(t *testing.T) way {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	require.NoError(t, err)
	in, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	go func() {
		c, err := in.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, asItWas)
		}
	}()
	return s.ours(t, "a receipt, before", 1, client.Options{BaseURL: "https://" + in.Addr().String()})
}

// ownTracks is a phone with OwnTracks for Android, in its HTTP mode.
func (s *stage) ownTracks(t *testing.T) way {
	t.Helper()
	p := s.phone(t)
	made, err := s.caller(t, p.token).Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/me/devices", Body: map[string]string{"format": "owntracks"}})
	require.NoError(t, err)
	var device struct{ User, Secret string }
	require.NoError(t, json.Unmarshal(made.Data, &device), "%v", made.Err)
	return way{"OwnTracks over HTTP", 1, p.wire, func(t *testing.T, fixes []fix) {
		t.Helper()
		f := fixes[0]
		sent := phoneapps.OwnTracksAndroid.Request(phoneapps.Login{User: device.User, Secret: device.Secret}, []phoneapps.Point{{
			Latitude: f.Latitude, Longitude: f.Longitude, AccuracyM: *f.AccuracyM, SpeedMPS: *f.SpeedKMH / 3.6, HeadingDeg: *f.HeadingDeg, At: f.RecordedAt,
		}}, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base()+"/api/v1/ingest/owntracks", strings.NewReader(sent.Body))
		require.NoError(t, err)
		req.Header = sent.Header
		res, err := p.http.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.Equal(t, "stored", res.Header.Get("Doorstep-Verdict"))
	}}
}

// webSocket is a phone that sends the same over a WebSocket: the token and the session once,
// when it is opened, and each fix in a message that is answered with what return=minimal says.
// It is the library's, and no gateway: what counts is the framing.
func (s *stage) webSocket(t *testing.T) way {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	require.NoError(t, err)
	in, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: websocket.Server{Handler: func(ws *websocket.Conn) {
		var message string
		for websocket.Message.Receive(ws, &message) == nil {
			_ = websocket.Message.Send(ws, fmt.Sprintf(`{"seq":%d,"nextUpdateMs":5000}`, time.Now().UnixMilli()))
		}
	}}}
	go func() { _ = server.Serve(in) }()
	t.Cleanup(func() { _ = server.Close() })

	p := s.phone(t)
	base := "://" + in.Addr().String()
	config, err := websocket.NewConfig("wss"+base+"/api/v1/journey?sessionId="+p.session, "https"+base)
	require.NoError(t, err)
	config.Header.Set("Authorization", "Bearer "+p.token)
	var ws *websocket.Conn
	return way{"a WebSocket", 1, p.wire, func(t *testing.T, fixes []fix) {
		t.Helper()
		if ws == nil {
			c, err := p.wire.dial(t.Context(), "tcp", in.Addr().String())
			require.NoError(t, err)
			ws, err = websocket.NewClient(config, tls.Client(c, s.trust))
			require.NoError(t, err)
			t.Cleanup(func() { _ = ws.Close() })
		}
		f := fixes[0]
		text, err := json.Marshal(map[string]any{
			"latitude": f.Latitude, "longitude": f.Longitude, "accuracy": *f.AccuracyM, "speed": *f.SpeedKMH, "heading": *f.HeadingDeg,
			"recordedAt": instant(f.RecordedAt), "sentAt": instant(f.SentAt),
		})
		require.NoError(t, err)
		require.NoError(t, websocket.Message.Send(ws, string(text)))
		var answer string
		require.NoError(t, websocket.Message.Receive(ws, &answer))
	}}
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
