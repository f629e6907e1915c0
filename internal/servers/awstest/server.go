package awstest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// The account of the server. A request that is signed with other keys gets 403.
const (
	Region    = "eu-central-1"
	AccessKey = "AKIDOORSTEPTEST"
	SecretKey = "awstest/secret/key" // opens nothing
	account   = "000000000000"
)

// Env is the SDK's own variables for this account.
func Env() []string {
	return []string{
		"AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// SetEnv calls set, t.Setenv for example, for each variable of Env.
func SetEnv(set func(name, value string)) {
	for _, setting := range Env() {
		name, value, _ := strings.Cut(setting, "=")
		set(name, value)
	}
}

// Fault is what the server does instead of answering.
type Fault int

// The faults.
const (
	None     Fault = iota
	Throttle       // 400 ThrottlingException
	Internal       // 500 InternalFailure
	Stall          // no answer until the client has gone or the fault has ended
	Drop           // the connection is closed before an answer
	Lose           // the call is carried out, then the connection is closed
	Deny           // 400 AccessDeniedException, as for a missing right
)

// Server is the endpoint. Safe for concurrent use.
type Server struct {
	http *httptest.Server

	mu     sync.Mutex
	fault  Fault
	over   chan struct{} // closed when the present fault ends
	reject func(Entry) string
	calls  map[string]int
	buses  map[string][]rule
	events []Entry
	queues map[string]*queue

	secrets map[string]string
}

// Start starts a server. Close ends it.
func Start() *Server {
	s := &Server{
		over: make(chan struct{}), calls: map[string]int{}, buses: map[string][]rule{}, queues: map[string]*queue{}, secrets: map[string]string{},
	}
	s.http = httptest.NewServer(s)
	return s
}

// Close ends the server and the running calls.
func (s *Server) Close() {
	s.Fail(None)
	s.http.CloseClientConnections()
	s.http.Close()
}

// URL is the endpoint.
func (s *Server) URL() string { return s.http.URL }

// Fail makes every call from now on fail; None ends that.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	close(s.over)
	s.over = make(chan struct{})
}

// Reject sets what decides about each entry: its ErrorCode, empty to take it. A nil f takes
// all.
func (s *Server) Reject(f func(Entry) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reject = f
}

// Calls is how often an action was called, such as "PutEvents", failed calls included.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// problem is an error in AWS's form.
type problem struct {
	status        int
	code, message string
}

func (p *problem) Error() string { return p.code + ": " + p.message }

func refuse(code, format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// maxBody is above every limit, so that the limits give the answer.
const maxBody = 4 << 20

// ServeHTTP answers one call: the fault, the signature, the action.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	s.mu.Lock()
	s.calls[action]++
	fault, over := s.fault, s.over
	s.mu.Unlock()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = verify(r, body, map[string]string{"AWSEvents": "events", "AmazonSQS": "sqs", "secretsmanager": "secretsmanager"}[service])
	}
	var answer any
	switch {
	case err != nil:
	case fault == Throttle:
		err = refuse("ThrottlingException", "Rate exceeded")
	case fault == Internal:
		err = &problem{http.StatusInternalServerError, "InternalFailure", "set by the test"}
	case fault == Deny:
		err = refuse("AccessDeniedException", "set by the test")
	case fault == Stall:
		select {
		case <-over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case fault == Drop:
		panic(http.ErrAbortHandler)
	default:
		answer, err = s.act(r, service+"."+action, body)
	}
	if fault == Lose {
		panic(http.ErrAbortHandler)
	}
	reply(w, r, answer, err)
}

func (s *Server) act(r *http.Request, target string, body []byte) (any, error) {
	if target == "AWSEvents.PutEvents" {
		return act(body, s.putEvents)
	}
	switch target {
	case "secretsmanager.GetSecretValue":
		return act(body, s.getSecretValue)
	case "AmazonSQS.CreateQueue":
		return act(body, s.createQueue)
	case "AmazonSQS.GetQueueUrl":
		return act(body, s.getQueueURL)
	case "AmazonSQS.SendMessage":
		return act(body, s.sendMessage)
	case "AmazonSQS.ReceiveMessage":
		return act(body, func(in receive) (any, error) { return s.receiveMessage(r.Context(), in) })
	case "AmazonSQS.DeleteMessage":
		return act(body, s.deleteMessage)
	case "AmazonSQS.ChangeMessageVisibility":
		return act(body, s.changeVisibility)
	}
	return nil, refuse("UnknownOperationException", "%s", target)
}

func act[In any](body []byte, do func(In) (any, error)) (any, error) {
	var in In
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	return do(in)
}

func reply(w http.ResponseWriter, r *http.Request, answer any, err error) {
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("X-Amzn-Requestid", rand.Text())
	status := http.StatusOK
	if err != nil {
		p := &problem{http.StatusInternalServerError, "InternalFailure", err.Error()}
		errors.As(err, &p)
		status, answer = p.status, map[string]string{"__type": p.code, "message": p.message}
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client may have gone
}

// now is the present instant in UTC.
func now() time.Time { return time.Now().UTC() }
