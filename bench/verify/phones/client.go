// Package phones holds models of stock phone apps: the queue of each and its retry
// loop, as its source has them. Pointed at a gateway, they show whether every queue
// empties, how soon the student sees the present, and what the app makes of each
// answer.
package phones

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"doorstep/geo"
	"doorstep/internal/phoneapps"
)

// Client is the queue and the retry loop of one app, as a state machine: it does no
// I/O and knows no clock. Not safe for concurrent use.
type Client struct {
	App phoneapps.App
	// Lost counts points that the app has thrown away: refused for good (OwnTracks on
	// iOS), or too old to keep.
	Lost int

	login    phoneapps.Login
	loop     loop
	queue    []phoneapps.Point // oldest first; all of them keep it on disk
	sending  int               // points of the queue in the request under way
	failures int               // in a row
	answered bool              // once at least since it was started
	waits    bool              // for an event, before it tries again
	stopped  bool              // a server has told it to

	last      *phoneapps.Point // that the receiver gave and the app kept
	interval  time.Duration    // OwnTracks: between two of those
	distanceM float64          // transistorsoft: between two of those
	every     time.Duration    // Overland: between two batches
}

// loop is what an app does about an answer that is no success.
type loop struct {
	first, most time.Duration // a back-off that doubles from the one to the other; fixed where they are equal
	onEvent     bool          // no timer: only the next event tries again
	dropsOn4xx  bool          // it shows an alert and throws the point away
	every       time.Duration // after any answer, a success included
	keeps       time.Duration // what is older is thrown away; 0: nothing is
}

// loops are read from the sources: OwnTracks Android MessageProcessor, iOS
// Connection; Traccar's TrackerEngine and TrackingController; transistorsoft's guide
// to HTTP; Overland's GLManager.
func loopOf(a phoneapps.App) loop {
	switch a {
	case phoneapps.OwnTracksAndroid:
		return loop{first: time.Second, most: 2 * time.Minute}
	case phoneapps.OwnTracksIOS:
		return loop{first: time.Second, most: 64 * time.Second, dropsOn4xx: true}
	case phoneapps.Traccar10:
		return loop{first: 5 * time.Second, most: 5 * time.Minute}
	case phoneapps.Traccar8:
		return loop{first: 30 * time.Second, most: 30 * time.Second}
	case phoneapps.Overland:
		return loop{every: 30 * time.Second}
	default: // transistorsoft, and Traccar 9, which is made of it
		return loop{onEvent: true, keeps: 24 * time.Hour}
	}
}

// NewClient makes an app as it is installed, with an empty queue.
func NewClient(app phoneapps.App, login phoneapps.Login) *Client {
	return &Client{App: app, login: login, loop: loopOf(app), every: loopOf(app).every}
}

// Record is a fix of the receiver, which has one a second. The app keeps it if it
// wants it. A new location is an event.
func (c *Client) Record(p phoneapps.Point) {
	if c.stopped || !c.wants(p) {
		return
	}
	c.last = &p
	c.queue = append(c.queue, p)
	if c.loop.keeps > 0 {
		for c.sending == 0 && c.queue[0].At.Before(p.At.Add(-c.loop.keeps)) {
			c.queue = c.queue[1:]
			c.Lost++
		}
	}
	c.waits = false
}

func (c *Client) wants(p phoneapps.Point) bool {
	if c.last == nil {
		return true
	}
	moved := geo.DistanceM(geo.MustPoint(c.last.Latitude, c.last.Longitude), geo.MustPoint(p.Latitude, p.Longitude))
	return p.At.Sub(c.last.At) >= c.interval && moved >= c.distanceM
}

// Wake is an event: the network is back, the app is opened, a heartbeat. Apps try
// again at once.
func (c *Client) Wake() { c.failures, c.waits = 0, false }

// Restart ends the app and starts it again. A request under way is as if it had
// never been.
func (c *Client) Restart() {
	c.sending, c.answered = 0, false
	c.Wake()
}

// Queued is how many points wait.
func (c *Client) Queued() int { return len(c.queue) }

// Newest is when the last point was taken that the app has kept.
func (c *Client) Newest() time.Time {
	if c.last == nil {
		return time.Time{}
	}
	return c.last.At
}

// Stopped reports whether a server has ended the tracking.
func (c *Client) Stopped() bool { return c.stopped }

// Next is the request to send after a pause; false where there is none, or none
// before the next event. newest is the newest point in it.
func (c *Client) Next() (r phoneapps.Request, newest phoneapps.Point, pause time.Duration, ok bool) {
	if len(c.queue) == 0 || c.waits {
		return phoneapps.Request{}, phoneapps.Point{}, 0, false
	}
	c.sending = len(c.queue)
	if most := c.App.Most(); most > 0 {
		c.sending = min(c.sending, most)
	}
	points := c.queue[:c.sending]
	newest = points[c.sending-1]
	var current *phoneapps.Point
	if c.App == phoneapps.Overland && len(c.queue) > 2*c.App.Most() {
		current = &c.queue[len(c.queue)-1]
		newest = *current
	}
	return c.App.Request(c.login, points, current), newest, c.pause(), true
}

func (c *Client) pause() time.Duration {
	switch {
	case !c.answered:
		return 0
	case c.failures == 0 || c.loop.first == 0:
		return c.every
	}
	return min(c.loop.most, c.loop.first<<min(c.failures-1, 20))
}

// Answered is what came back: a status, or 0 for no answer.
func (c *Client) Answered(status int, body []byte) {
	n := c.sending
	c.sending, c.answered = 0, true
	switch {
	case status != 0 && c.App.Accepted(status, body):
		c.queue = c.queue[n:]
		c.failures = 0
		c.obey(body)
	case c.loop.dropsOn4xx && status/100 == http.StatusBadRequest/100:
		c.queue = c.queue[n:]
		c.Lost += n
		c.failures = 0
	default:
		c.failures++
		c.waits = c.loop.onEvent
	}
}

// obey does what an answer tells the app.
func (c *Client) obey(body []byte) {
	switch c.App.Format() {
	case "owntracks":
		var told []struct {
			Action        string `json:"action"`
			Configuration struct {
				Monitoring *int    `json:"monitoring"`
				Android    float64 `json:"moveModeLocatorInterval"`
				IOS        float64 `json:"locatorInterval"`
			} `json:"configuration"`
		}
		if json.Unmarshal(body, &told) != nil || len(told) == 0 || told[0].Action != "setConfiguration" {
			return
		}
		set := told[0].Configuration
		c.stopped = set.Monitoring != nil && *set.Monitoring <= 0
		seconds := set.IOS
		if c.App == phoneapps.OwnTracksAndroid {
			seconds = set.Android
		}
		c.interval = time.Duration(seconds) * time.Second
	case "transistorsoft":
		c.obeyCommands(body)
	case "overland":
		var told struct {
			Set struct {
				SendInterval string `json:"send_interval"`
				Main         struct {
					TrackingMode string `json:"tracking_mode"`
				} `json:"main"`
			} `json:"set"`
		}
		if json.Unmarshal(body, &told) != nil {
			return
		}
		c.stopped = c.stopped || told.Set.Main.TrackingMode == "off"
		if every, err := time.ParseDuration(told.Set.SendInterval); err == nil {
			c.every = every
		}
	}
}

// obeyCommands carries out background_geolocation: one command, or a list.
func (c *Client) obeyCommands(body []byte) {
	var told struct {
		Commands [][]json.RawMessage `json:"background_geolocation"`
	}
	if json.Unmarshal(body, &told) != nil {
		return
	}
	for _, command := range told.Commands {
		switch {
		case len(command) > 0 && bytes.Equal(command[0], []byte(`"stop"`)):
			c.stopped = true
		case len(command) > 1 && bytes.Equal(command[0], []byte(`"setConfig"`)):
			var settings struct {
				DistanceFilter *float64 `json:"distanceFilter"`
			}
			if json.Unmarshal(command[1], &settings) == nil && settings.DistanceFilter != nil {
				c.distanceM = math.Max(0, *settings.DistanceFilter)
			}
		}
	}
}
