// Command gosimple is a peer of make bench-peers: the review's design, as
// bench/peers/express has it, in Go with net/http and go-redis: five sequential
// trips for an update, short polling. What it gains over Express is the
// language's part; what Doorstep gains over it is the design's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

func main() {
	opts, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	opts.ReadTimeout = 250 * time.Millisecond
	rate, err := strconv.Atoi(os.Getenv("RATE_MS"))
	if err != nil {
		log.Fatal(err)
	}
	s := &server{redis: redis.NewClient(opts), secret: []byte(os.Getenv("JWT_SECRET")), rate: time.Duration(rate) * time.Millisecond}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/admin/sessions", s.authenticated(s.book))
	mux.HandleFunc("POST /api/v1/admin/sessions/{sessionId}/start-journey", s.authenticated(s.start))
	mux.HandleFunc("POST /api/v1/admin/location-tracking/journey/updates", s.authenticated(s.update))
	mux.HandleFunc("GET /api/v1/admin/location-tracking/journey/live", s.authenticated(s.live))
	listener := &http.Server{Addr: os.Getenv("LISTEN"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(listener.ListenAndServe())
}

type server struct {
	redis  *redis.Client
	secret []byte
	rate   time.Duration
}

// refusal is an answer that is not a success.
type refusal struct {
	status  int
	message string
}

func (r refusal) Error() string { return r.message }

// parties are who a session belongs to.
type parties struct {
	TrainerID string `json:"trainerId"`
	StudentID string `json:"studentId"`
}

// location is what lies in the store, and in an answer.
type location struct {
	Latitude  float64   `json:"latitude"`
	Longitude float64   `json:"longitude"`
	Accuracy  float64   `json:"accuracy"`
	Speed     float64   `json:"speed"`
	Heading   float64   `json:"heading"`
	Timestamp time.Time `json:"timestamp"`
}

type handler func(r *http.Request, user string) (status int, data any, err error)

func (s *server) authenticated(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, data, err := 0, any(nil), error(refusal{http.StatusUnauthorized, "invalid token"})
		if user, ok := s.user(r); ok {
			status, data, err = h(r, user)
		}
		answer(w, status, data, err)
	}
}

func (s *server) user(r *http.Request) (string, bool) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", false
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return s.secret, nil }, jwt.WithValidMethods([]string{"HS256"}))
	return claims.Subject, err == nil
}

func answer(w http.ResponseWriter, status int, data any, err error) {
	body := map[string]any{"success": err == nil, "data": data}
	var r refusal
	switch {
	case errors.As(err, &r):
		status, body["message"] = r.status, r.message
	case err != nil:
		status, body["message"] = http.StatusInternalServerError, err.Error()
	}
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func (s *server) book(r *http.Request, _ string) (int, any, error) {
	var body struct {
		SessionID string `json:"sessionId"`
		parties
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return 0, nil, refusal{http.StatusBadRequest, "no JSON"}
	}
	text, err := json.Marshal(body.parties)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, body, s.redis.SetEx(r.Context(), "session:meta:"+body.SessionID, text, time.Hour).Err()
}

func (s *server) start(r *http.Request, user string) (int, any, error) {
	id := r.PathValue("sessionId")
	var who parties
	if err := s.read(r.Context(), "session:meta:"+id, &who); err != nil {
		return 0, nil, err
	}
	if who.TrainerID != user {
		return 0, nil, refusal{http.StatusForbidden, "Not your session"}
	}
	text, err := json.Marshal(who)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, who, s.redis.SetEx(r.Context(), "journey:active:"+id, text, time.Hour).Err()
}

func (s *server) update(r *http.Request, user string) (int, any, error) {
	var body struct {
		SessionID string `json:"sessionId"`
		location
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || math.Abs(body.Latitude) > 90 || math.Abs(body.Longitude) > 180 {
		return 0, nil, refusal{http.StatusBadRequest, "Invalid coordinates"}
	}
	ctx := r.Context()
	if err := s.limit(ctx, "location:rate:"+user); err != nil { // trips 1 and 2
		return 0, nil, err
	}
	var who parties
	if err := s.read(ctx, "journey:active:"+body.SessionID, &who); err != nil { // 3
		return 0, nil, err
	}
	if who.TrainerID != user {
		return 0, nil, refusal{http.StatusForbidden, "Not your session"}
	}
	key := fmt.Sprintf("location:trainer:%s:session:%s", user, body.SessionID)
	var previous location
	err := s.read(ctx, key, &previous) // 4
	var missing refusal
	switch {
	case errors.As(err, &missing): // the first fix
	case err != nil:
		return 0, nil, err
	case metres(previous, body.location)/time.Since(previous.Timestamp).Seconds()*3.6 > 120:
		return 0, nil, refusal{http.StatusBadRequest, "Suspicious location update (speed too high)"}
	}
	body.Timestamp = time.Now().UTC()
	text, err := json.Marshal(body.location)
	if err != nil {
		return 0, nil, err
	}
	done := map[string]any{"sessionId": body.SessionID, "timestamp": body.Timestamp, "ttl": 300}
	return http.StatusCreated, done, s.redis.SetEx(ctx, key, text, 5*time.Minute).Err() // 5
}

// limit is the review's own: a GET, then a SETEX.
func (s *server) limit(ctx context.Context, key string) error {
	last, err := s.redis.Get(ctx, key).Int64()
	switch {
	case errors.Is(err, redis.Nil):
	case err != nil:
		return err
	case time.Since(time.UnixMilli(last)) < s.rate:
		return refusal{http.StatusTooManyRequests, "Location update too frequent"}
	}
	return s.redis.SetEx(ctx, key, time.Now().UnixMilli(), 5*time.Second).Err()
}

func (s *server) live(r *http.Request, user string) (int, any, error) {
	id := r.URL.Query().Get("sessionId")
	var who parties
	if err := s.read(r.Context(), "journey:active:"+id, &who); err != nil {
		return 0, nil, err
	}
	if who.StudentID != user && who.TrainerID != user {
		return 0, nil, refusal{http.StatusForbidden, "Not your session"}
	}
	var at *location
	err := s.read(r.Context(), fmt.Sprintf("location:trainer:%s:session:%s", who.TrainerID, id), &at)
	var missing refusal
	if err != nil && !errors.As(err, &missing) {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"sessionId": id, "trainerId": who.TrainerID, "location": at, "isActive": true}, nil
}

// read is a GET of JSON.
func (s *server) read(ctx context.Context, key string, into any) error {
	text, err := s.redis.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return refusal{http.StatusNotFound, "not found"}
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func metres(a, b location) float64 {
	const rad = math.Pi / 180
	lat, lng := math.Sin((b.Latitude-a.Latitude)*rad/2), math.Sin((b.Longitude-a.Longitude)*rad/2)
	h := lat*lat + math.Cos(a.Latitude*rad)*math.Cos(b.Latitude*rad)*lng*lng
	return 2 * 6371008.8 * math.Asin(math.Sqrt(h))
}
