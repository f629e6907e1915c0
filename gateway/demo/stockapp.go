package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"doorstep/client"
	"doorstep/internal/phoneapps"
	"doorstep/sessions"
)

// stockApps are the apps that --as names.
var stockApps = map[string]phoneapps.App{
	"owntracks": phoneapps.OwnTracksAndroid, "traccar": phoneapps.Traccar10, "overland": phoneapps.Overland, "transistorsoft": phoneapps.Transistorsoft,
}

// stockApp is an app from the store on a trainer's phone: it knows no session, and its
// device no token.
type stockApp struct {
	app   phoneapps.App
	login phoneapps.Login
	base  string
	http  *http.Client
}

// stockApp makes a device of the trainer's, as POST /me/devices does for anybody.
func (b *backend) stockApp(ctx context.Context, trainer sessions.ID, name string, n int) (*stockApp, error) {
	at := b.gateways[n%len(b.gateways)]
	token, err := at.app.Token(sessions.Caller{ID: trainer, Role: sessions.Trainer}, time.Hour)
	if err != nil {
		return nil, err
	}
	s := &stockApp{app: stockApps[name], base: at.base + "/api/v1", http: b.http}
	header := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}}
	status, _, body, err := s.post(ctx, "/me/devices", header, fmt.Appendf(nil, `{"name":"demo","format":%q}`, s.app.Format()))
	var made struct {
		Data struct {
			User   string `json:"user"`
			Secret string `json:"secret"`
		} `json:"data"`
	}
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("%d %s", status, body)
	}
	if err = errors.Join(err, json.Unmarshal(body, &made)); err != nil {
		return nil, fmt.Errorf("make a device: %w", err)
	}
	s.login = phoneapps.Login{User: made.Data.User, Secret: made.Data.Secret}
	return s, nil
}

// update sends a fix as the app does, and reads what became of it from the header that
// the app itself ignores.
func (s *stockApp) update(ctx context.Context, fix client.Fix) (client.Receipt, error) {
	point := phoneapps.Point{Latitude: fix.Latitude, Longitude: fix.Longitude, AccuracyM: -1, SpeedMPS: -1, HeadingDeg: -1, At: fix.RecordedAt, Mock: fix.Mock}
	for from, to := range map[*float64]*float64{fix.AccuracyM: &point.AccuracyM, fix.SpeedKMH: &point.SpeedMPS, fix.HeadingDeg: &point.HeadingDeg} {
		if from != nil {
			*to = *from
		}
	}
	if point.SpeedMPS > 0 {
		point.SpeedMPS /= 3.6
	}
	request := s.app.Request(s.login, []phoneapps.Point{point}, nil)
	path := "/ingest/" + s.app.Format()
	if request.Query != "" {
		path += "?" + request.Query
	}
	status, header, _, err := s.post(ctx, path, request.Header, []byte(request.Body))
	if err != nil {
		return client.Receipt{}, err
	}
	if status != http.StatusOK {
		return client.Receipt{}, &client.Error{Status: status, Code: client.LiveStoreUnavailable, RetryAfter: time.Second}
	}
	receipt := client.Receipt{NextUpdate: cadence}
	switch verdict, _, _ := strings.Cut(header.Get("Doorstep-Verdict"), ";"); verdict {
	case "stored", "stored_late":
		receipt.Verdict = client.Stored
	case "stale":
		receipt.Verdict = client.Stale
	case "refused_speed", "refused_ceiling":
		return receipt, &client.Error{Status: status, Code: client.ImplausibleSpeed, Message: verdict}
	case "refused_jump":
		return receipt, &client.Error{Status: status, Code: client.ImplausibleJump, Message: verdict}
	case "no_journey":
		return receipt, &client.Error{Status: status, Code: client.NoActiveJourney, Message: verdict}
	case "too_soon", "ignored_too_soon":
		receipt.Verdict = client.TooSoon
	default:
		receipt.Verdict = client.LowAccuracy
	}
	return receipt, nil
}

func (s *stockApp) post(ctx context.Context, path string, header http.Header, body []byte) (status int, got http.Header, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header = header
	res, err := s.http.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	answer, err = io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, res.Header, answer, errors.Join(err, res.Body.Close())
}
