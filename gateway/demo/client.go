package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"doorstep/sessions"
)

// client is one user's app: JSON over the service's own HTTP API, with that
// user's token. It knows no more than the contract, so that what works here
// works for a stranger.
type client struct {
	base  string // http://host:port
	http  *http.Client
	user  sessions.ID
	token string
}

// answer is what the service said: the envelope of a success or a failure.
type answer struct {
	Status     int             `json:"-"`
	ETag       string          `json:"-"`
	Code       string          `json:"code"`
	Message    string          `json:"message"`
	RetryMS    int64           `json:"retryAfterMs"`
	DistanceM  float64         `json:"distanceMeters"`
	Data       json.RawMessage `json:"data"`
	receivedAt time.Time
}

// label is the answer's name in a table.
func (a answer) label() string {
	if a.Code == "" {
		return fmt.Sprint(a.Status)
	}
	return fmt.Sprintf("%d %s", a.Status, a.Code)
}

// into reads the data of a success.
func (a answer) into(v any) error {
	if err := json.Unmarshal(a.Data, v); err != nil {
		return fmt.Errorf("%s: data: %w", a.label(), err)
	}
	return nil
}

// unexpected is an answer that nothing here explains.
type unexpected struct {
	call string
	answer
}

func (u unexpected) Error() string {
	return fmt.Sprintf("%s answered %s: %s", u.call, u.label(), u.Message)
}

const (
	// patience is how long an app waits for an answer that is due at once.
	patience = 10 * time.Second
	// maxAnswer bounds what is read: the largest answer is a few kB.
	maxAnswer = 1 << 20
)

// post sends body; nil sends none.
func (c *client) post(ctx context.Context, path string, body any) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	return c.do(req)
}

// get reads path; wait is how long the service may take beyond its usual.
func (c *client) get(ctx context.Context, path, etag string, wait time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1"+path, nil)
	if err != nil {
		return answer{}, err
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	return c.do(req)
}

func (c *client) do(req *http.Request) (answer, error) {
	req.Header.Set("Authorization", "Bearer "+c.token)
	res, err := c.http.Do(req) //nolint:gosec // to the gateway that the demo itself has started
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	_ = res.Body.Close()
	if err != nil {
		return answer{}, err
	}
	a := answer{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a); err != nil {
			a = answer{Message: "not JSON"}
		}
	}
	a.Status, a.ETag, a.receivedAt = res.StatusCode, res.Header.Get("ETag"), time.Now()
	return a, nil
}
