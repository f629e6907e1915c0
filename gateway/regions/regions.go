// Package regions forwards calls to the gateways of other regions. A journey belongs to
// one region, whose live store alone holds its location; a call that comes to another one
// is sent on to it. docs/edge.md has the whole picture. The package knows no Hertz and no
// handler.
package regions

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"doorstep/sessions"
)

// Region is where the gateways of a region are.
type Region struct {
	Name string
	// URL is what callers use: scheme, host and maybe a path, without a slash at the end.
	URL string
	// Internal is where the other regions' gateways reach it, of the same form; URL where
	// there is no other way.
	Internal string
}

// Parse reads the settings regions and regions-internal, whose items are name=URL, and
// checks that own is among them. No regions are no error, and nil. The error names the
// setting that is wrong.
func Parse(own string, public, internal []string) ([]Region, error) {
	var list []Region
	for _, item := range public {
		name, at, err := parseItem("regions", item)
		if err != nil {
			return nil, err
		}
		if at2 := find(list, name); at2 >= 0 {
			return nil, fmt.Errorf("regions: %s is there twice", name)
		}
		list = append(list, Region{Name: name, URL: at, Internal: at})
	}
	for _, item := range internal {
		name, at, err := parseItem("regions-internal", item)
		if err != nil {
			return nil, err
		}
		i := find(list, name)
		if i < 0 {
			return nil, fmt.Errorf("regions-internal: %s is not among DOORSTEP_REGIONS", name)
		}
		list[i].Internal = at
	}
	switch {
	case len(list) == 0:
		return nil, nil
	case own == "":
		return nil, fmt.Errorf("region: it is missing, and regions is set: set DOORSTEP_REGION to one of %s", names(list))
	case find(list, own) < 0:
		return nil, fmt.Errorf("region: %s is not among DOORSTEP_REGIONS: %s", own, names(list))
	}
	return list, nil
}

func parseItem(setting, item string) (name, at string, err error) {
	name, text, found := strings.Cut(strings.TrimSpace(item), "=")
	if !found || !sessions.ValidRegion(name) {
		// The item is not repeated: a URL may hold a password.
		return "", "", fmt.Errorf("%s: an item is not name=URL, such as eu=https://eu.example.com, with a name of 1 to 32 small letters, digits and -", setting)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return "", "", fmt.Errorf("%s: what %s is set to is not a URL such as https://eu.example.com", setting, name)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return "", "", fmt.Errorf("%s: the URL of %s has more than a scheme, a host, a port and a path", setting, name)
	}
	return name, strings.TrimRight(u.String(), "/"), nil
}

func find(list []Region, name string) int {
	return slices.IndexFunc(list, func(r Region) bool { return r.Name == name })
}

func names(list []Region) string {
	var all []string
	for _, r := range list {
		all = append(all, r.Name)
	}
	return strings.Join(all, ", ")
}

// Metrics counts the calls. The methods are called from many goroutines at once.
type Metrics interface {
	Forwarded(region, outcome string) // one of the other regions, and one of Outcomes
}

// Outcomes lists how a forwarded call can end.
func Outcomes() []string { return []string{answered, away, breakerOpen, busy, left} }

const (
	answered    = "answered"     // by a gateway of that region, whatever its status
	away        = "away"         // no gateway of that region answered in time
	breakerOpen = "breaker_open" // not sent
	busy        = "busy"         // not sent: as many calls are under way as there may be
	left        = "left"         // the caller left
)

// DefaultMaxCalls is how many calls may be under way to one region, waits not counted.
const DefaultMaxCalls = 1024

// Options are the settings of Regions.
type Options struct {
	Own  string
	List []Region // as Parse returns it
	// MaxCalls and MaxWaits bound what is under way to each region. 0: DefaultMaxCalls, and
	// as many waits.
	MaxCalls, MaxWaits int
	Metrics            Metrics
	Log                *slog.Logger      // nil: discards
	Transport          http.RoundTripper // nil: connections of its own; another is for tests
}

// Regions knows the regions, and forwards calls to the others. Safe for concurrent use.
type Regions struct {
	own    string
	list   []Region
	others map[string]*other
	log    *slog.Logger
	m      Metrics
}

// other is the way to another region.
type other struct {
	Region
	client       *http.Client
	breaker      *gobreaker.TwoStepCircuitBreaker[any]
	failure      atomic.Pointer[error] // the last one, for the log
	calls, waits room
}

// room bounds what is under way at once.
type room struct {
	limit int64
	now   atomic.Int64
}

func (r *room) enter() bool {
	if r.now.Add(1) <= r.limit {
		return true
	}
	r.now.Add(-1)
	return false
}

func (r *room) leave() { r.now.Add(-1) }

// New makes Regions; nil where the list is empty. It does no I/O. Close it in the end.
func New(opts Options) *Regions {
	if len(opts.List) == 0 {
		return nil
	}
	r := &Regions{own: opts.Own, list: opts.List, others: map[string]*other{}, log: opts.Log, m: opts.Metrics}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	calls := cmp.Or(opts.MaxCalls, DefaultMaxCalls)
	for _, region := range opts.List {
		if region.Name == opts.Own {
			continue
		}
		to := &other{Region: region, client: client(opts.Transport)}
		to.breaker = r.breaker(to)
		to.calls.limit, to.waits.limit = int64(calls), int64(cmp.Or(opts.MaxWaits, calls))
		r.others[region.Name] = to
	}
	return r
}

// breaker opens after five failed calls in a row. A second later, which is what callers
// are told to wait, three successful probes in a row close it.
func (r *Regions) breaker(of *other) *gobreaker.TwoStepCircuitBreaker[any] {
	return gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name: "region " + of.Name, MaxRequests: 3, Timeout: time.Second, Interval: 10 * time.Second, BucketPeriod: time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 },
		IsExcluded:  func(err error) bool { return err == errLeft }, //nolint:errorlint // it is never wrapped
		OnStateChange: func(_ string, _, to gobreaker.State) {
			attrs := []any{slog.String("region", of.Name), slog.String("state", to.String())}
			if to == gobreaker.StateOpen { // what the calls themselves say is logged at debug: most are answered 200 or 202
				attrs = append(attrs, slog.Any("error", *of.failure.Load()))
			}
			r.log.Warn("breaker of another region", attrs...)
		},
	})
}

const (
	dialWithin = 3 * time.Second
	// idleFor is below DOORSTEP_IDLE_TIMEOUT of the other side, so that a connection is as
	// a rule not used just when that closes it.
	idleFor = 60 * time.Second
	// keptIdle is how many idle connections to a region stay open.
	keptIdle = 256
	// maxHeaders bounds the headers of an answer.
	maxHeaders = 16 << 10
)

func client(by http.RoundTripper) *http.Client {
	if by == nil {
		by = &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: dialWithin}).DialContext, TLSHandshakeTimeout: dialWithin,
			MaxIdleConnsPerHost: keptIdle, IdleConnTimeout: idleFor, MaxResponseHeaderBytes: maxHeaders,
			DisableCompression: true, // this gateway compresses for its caller
		}
	}
	return &http.Client{
		Transport: by,
		// No gateway redirects, and the caller's token must not go elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Own is the name of this region.
func (r *Regions) Own() string { return r.own }

// Others lists the names of the other regions; of nil there are none.
func (r *Regions) Others() (list []string) {
	if r == nil {
		return nil
	}
	for _, region := range r.list {
		if region.Name != r.own {
			list = append(list, region.Name)
		}
	}
	return list
}

// URL is the public URL of a region; empty for one that is not known.
func (r *Regions) URL(region string) string {
	if i := find(r.list, region); i >= 0 {
		return r.list[i].URL
	}
	return ""
}

// Close closes the idle connections.
func (r *Regions) Close() {
	for _, to := range r.others {
		to.client.CloseIdleConnections()
	}
}
