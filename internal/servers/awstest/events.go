package awstest

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"time"
)

// Entry is an event as a bus received it.
type Entry struct {
	EventBusName, Source, DetailType, Detail string
	TraceHeader                              string    `json:",omitempty"`
	Time                                     float64   // seconds, as on the wire
	Resources                                []string  `json:",omitempty"`
	Arrived                                  time.Time `json:"-"`
}

// Limits of PutEvents. The limit of an entry is Doorstep's own, below AWS's.
const (
	maxEntries    = 10
	maxTotalBytes = 1 << 20
	maxEntryBytes = 64 << 10
)

type rule struct {
	source      string
	detailTypes []string
	queue       string
}

// Bus makes a bus. Events to an unknown bus are refused.
func (s *Server) Bus(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buses[name] = nil
}

// Rule sends a bus's events of a source and of these detail-types to a queue, which must
// exist.
func (s *Server) Rule(bus, source, queue string, detailTypes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buses[bus] = append(s.buses[bus], rule{source, detailTypes, queue})
}

// Events lists the events that the buses have taken, in order of arrival.
func (s *Server) Events() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

type putEvents struct{ Entries []Entry }

type putEntry struct {
	EventId, ErrorCode, ErrorMessage string `json:",omitempty"`
}

func (s *Server) putEvents(in putEvents) (any, error) {
	total := 0
	for _, e := range in.Entries {
		size := 14 + len(e.Source) + len(e.DetailType) + len(e.Detail)
		if size > maxEntryBytes {
			return nil, refuse("ValidationException", "an entry of %d bytes", size)
		}
		total += size
	}
	switch {
	case len(in.Entries) == 0 || len(in.Entries) > maxEntries:
		return nil, refuse("ValidationException", "%d entries; 1 to 10 are allowed", len(in.Entries))
	case total > maxTotalBytes:
		return nil, refuse("ValidationException", "Total size of the entries in the request is over the limit.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range in.Entries {
		if _, ok := s.buses[e.EventBusName]; !ok {
			return nil, refuse("ResourceNotFoundException", "Event bus %s does not exist.", e.EventBusName)
		}
	}
	answers, failed := make([]putEntry, len(in.Entries)), 0
	for i, e := range in.Entries {
		if answers[i] = s.take(e); answers[i].ErrorCode != "" {
			failed++
		}
	}
	return map[string]any{"FailedEntryCount": failed, "Entries": answers}, nil
}

// take is one entry's answer. Callers hold s.mu.
func (s *Server) take(e Entry) putEntry {
	var detail map[string]json.RawMessage
	code := ""
	switch {
	case e.Source == "" || e.DetailType == "" || e.Detail == "":
		code = "InvalidArgument"
	case json.Unmarshal([]byte(e.Detail), &detail) != nil:
		code = "MalformedDetail"
	case s.reject != nil:
		code = s.reject(e)
	}
	if code != "" {
		return putEntry{ErrorCode: code, ErrorMessage: "set by the test, or the entry is invalid"}
	}
	e.Arrived = now()
	s.events = append(s.events, e)
	id := rand.Text()
	for _, rule := range s.buses[e.EventBusName] {
		if rule.source == e.Source && slices.Contains(rule.detailTypes, e.DetailType) {
			s.queues[rule.queue].send(envelope(id, e), nil).Trace = e.TraceHeader
		}
	}
	return putEntry{EventId: id}
}

// envelope is the event as EventBridge sends it to a target.
func envelope(id string, e Entry) string {
	b, err := json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": e.DetailType, "source": e.Source, "account": account,
		"time": time.Unix(int64(e.Time), 0).UTC().Format(time.RFC3339), "region": Region, "resources": []string{},
		"detail": json.RawMessage(e.Detail),
	})
	if err != nil {
		panic(err) // the detail was read as JSON before
	}
	return string(b)
}
