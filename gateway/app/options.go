package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"doorstep/gateway/api"
	"doorstep/geo"
	"doorstep/sessions"
)

// Options are the settings of one gateway. settings.go makes a flag and an
// environment variable from each field's tags, so that the two cannot differ;
// `gateway serve --help` lists them. A zero field means the default of the
// part that uses it.
type Options struct {
	Listen          string   `default:"127.0.0.1:8080" env:"DOORSTEP_LISTEN" help:"Address of the public API, host:port."`
	TLSCert         string   `env:"DOORSTEP_TLS_CERT" help:"PEM file of the certificate with which the public API speaks HTTPS, with those that lead to its authority behind it; read again when it has changed. Needs tls-key. Empty: HTTP, for behind a load balancer or a proxy."`
	TLSKey          string   `env:"DOORSTEP_TLS_KEY" help:"PEM file of the certificate's key."`
	PublicURL       string   `env:"DOORSTEP_PUBLIC_URL" help:"URL at which phones reach this API, such as https://api.example.com; it stands in what is typed into stock apps. It is never taken from a request. Empty: without a database and a live store the address of the listener, else no devices can be made."`
	Regions         []string `env:"DOORSTEP_REGIONS" help:"The regions and where callers reach each, a list of name=URL such as eu=https://eu.example.com,us=https://us.example.com, the same on all gateways; needs region, which must be among them. A call about a journey of another region is forwarded there: see docs/edge.md. Empty: there is one region."`
	RegionsInternal []string `env:"DOORSTEP_REGIONS_INTERNAL" help:"Where the gateways of other regions are reached, where that is not by the URL in regions: a list of name=URL such as us=http://10.1.0.8:8080."`
	Steer           bool     `default:"true" env:"DOORSTEP_STEER" help:"Let the answers say how often phones report: nextUpdateMs, and the commands that stock apps know; see docs/phones.md."`
	SteerStop       bool     `env:"DOORSTEP_STEER_STOP" help:"Let the answers end the tracking of stock apps that report without a running journey. Somebody then has to turn it on before the next."`
	MetricsListen   string   `default:"127.0.0.1:9090" env:"DOORSTEP_METRICS_LISTEN" help:"Address of /metrics, host:port; it must not be public. Empty: no metrics."`
	Pprof           bool     `env:"DOORSTEP_PPROF" help:"Serve /debug/pprof on the metrics address."`

	Region string `env:"DOORSTEP_REGION" help:"Name of the region of this process and its live store: 1 to 32 lower-case letters, digits and hyphens. Every region has a name, and all use one database; see docs/contract.md. Empty: there is one region, and it has no name."`

	ValkeyURL        string `secret:"ValkeyURLFile" env:"DOORSTEP_VALKEY_URL" help:"URL of the live store: redis:// or valkey://, with TLS rediss:// or valkeys://, or unix:///path. For a cluster: any of its servers; add more with ?addr=host:port&addr=…. For Sentinel: the address of a sentinel, with ?master_set=NAME. Empty: the live store is in the memory of this process."`
	ValkeyCA         []byte `env:"DOORSTEP_VALKEY_CA" help:"PEM file, or its content, of the private certificate authority that signed the live store's certificates. Empty: the system's root certificates."`
	DatabaseURL      string `secret:"DatabaseURLFile" env:"DOORSTEP_DATABASE_URL" help:"URL of PostgreSQL: postgres://… Empty: the sessions are in the memory of this process."`
	DatabaseCA       []byte `env:"DOORSTEP_DATABASE_CA" help:"PEM file, or its content, of the certificate authority that signed PostgreSQL's certificate; database-url must then say sslmode=verify-full. Of RDS: its global bundle. Empty: the system's root certificates."`
	DatabasePooled   bool   `env:"DOORSTEP_DATABASE_POOLED" help:"database-url leads to PgBouncer or RDS Proxy: send no start-up parameters and prepare no statements. The role must then have the time-outs: see docs/start.md."`
	DatabaseMaxConns int    `default:"0" env:"DOORSTEP_DATABASE_MAX_CONNS" help:"Largest number of connections to PostgreSQL. By default 0: pool_max_conns in database-url, or else 16."`
	DatabaseIAM      bool   `env:"DOORSTEP_DATABASE_IAM" help:"Sign in to RDS or Aurora as the user in database-url with a token of the process's AWS credentials, a new one for each connection; needs TLS. Region and credentials are the AWS SDK's own settings."`
	DatabaseSecret   string `env:"DOORSTEP_DATABASE_SECRET" help:"Name or ARN of the secret in AWS Secrets Manager whose JSON keys username and password hold for database-url, in place of its own; asked for at each new connection, so that a rotation needs no restart. Region and credentials are the AWS SDK's own settings. Empty: none."`
	ValkeyIAM        string `env:"DOORSTEP_VALKEY_IAM" help:"Name of the ElastiCache replication group to which the user in valkey-url signs in with such a token; needs TLS. Empty: by the URL's password."`
	ValkeySecret     string `env:"DOORSTEP_VALKEY_SECRET" help:"As database-secret, for valkey-url. Empty: none."`
	// DatabaseURLFile and ValkeyURLFile are where the URL was read, if it was: see settings.go.
	DatabaseURLFile, ValkeyURLFile string

	DatabaseReaderURL string `secret:"DatabaseReaderURLFile" env:"DOORSTEP_DATABASE_READER_URL" help:"URL of a hot standby of PostgreSQL near this region, for reads that may be a second old: see docs/edge.md. While it is away or behind they go to database-url. The other settings database-… hold for it as well. Empty: all reads go to database-url."`
	// DatabaseReaderURLFile is where that URL was read, if it was.
	DatabaseReaderURLFile string

	JWTSecret    string `secret:"" env:"DOORSTEP_JWT_SECRET" help:"Secret of HS256 tokens, 32 bytes or more. Empty: no HS256 tokens; without a database, a live store and another source of keys a random secret."`
	JWTOldSecret string `secret:"" env:"DOORSTEP_JWT_OLD_SECRET" help:"The secret before that one: its tokens are still accepted, while a secret is changed."`
	JWKSURL      string `env:"DOORSTEP_JWKS_URL" help:"URL of the JWKS with the public keys of RS256, ES256 and EdDSA tokens."`
	JWTDiscovery bool   `env:"DOORSTEP_JWT_DISCOVERY" help:"Find the JWKS by OpenID Connect discovery at jwt-issuer, instead of jwks-url."`
	JWTUnchecked bool   `env:"DOORSTEP_JWT_UNCHECKED" help:"For tests only: accept a JWKS without jwt-issuer and jwt-audience, so that every token with these keys is accepted, for whatever service it was made."`
	TokenOptions
	JWTLeeway  time.Duration `default:"30s" env:"DOORSTEP_JWT_LEEWAY" help:"Difference between an issuer's clock and this one that exp, nbf and iat may have."`
	IssuerList []byte        `secret:"" env:"DOORSTEP_ISSUERS" help:"Several issuers: a JSON list, or a file with it, of objects with issuer, audience and the other names in docs/identity.md. The settings jwt-… and jwks-url are one more, if they give keys."`

	RateInterval     time.Duration `default:"5s" env:"DOORSTEP_RATE_INTERVAL" help:"Shortest time between two updates of one journey, in the long run."`
	RateTolerance    time.Duration `default:"1s" env:"DOORSTEP_RATE_TOLERANCE" help:"How much earlier than the rate interval an update may come (the tolerance of GCRA)."`
	LocationTTL      time.Duration `default:"300s" env:"DOORSTEP_LOCATION_TTL" help:"Time after the last accepted fix until the location is removed from the live store."`
	JourneyTTL       time.Duration `default:"1h" env:"DOORSTEP_JOURNEY_TTL" help:"Longest time that a journey may last; then it is ended."`
	ArrivalRadius    float64       `default:"150" env:"DOORSTEP_ARRIVAL_RADIUS" help:"Radius of the geofence around the home, metres."`
	ArrivalFreshness time.Duration `default:"60s" env:"DOORSTEP_ARRIVAL_FRESHNESS" help:"Greatest age of the last location with which a trainer can arrive."`
	MaxSpeedCar      float64       `default:"120" env:"DOORSTEP_MAX_SPEED_CAR" help:"Speed limit by car, km/h; docs/plausibility.md says when a fix above it is refused."`
	MaxSpeedBike     float64       `default:"30" env:"DOORSTEP_MAX_SPEED_BIKE" help:"Speed limit by bike, km/h."`
	MaxSpeedWalk     float64       `default:"15" env:"DOORSTEP_MAX_SPEED_WALK" help:"Speed limit on foot, km/h."`
	CeilingCar       float64       `default:"200" env:"DOORSTEP_CEILING_CAR" help:"Speed that no car exceeds, km/h: a fix above it is refused, until further fixes agree with it."`
	CeilingBike      float64       `default:"60" env:"DOORSTEP_CEILING_BIKE" help:"Speed that no bike exceeds, km/h."`
	CeilingWalk      float64       `default:"30" env:"DOORSTEP_CEILING_WALK" help:"Speed that no walker exceeds, km/h."`
	DefaultAccuracy  float64       `default:"25" env:"DOORSTEP_DEFAULT_ACCURACY" help:"Accuracy that is assumed for a fix without one, metres."`
	MaxAccuracy      float64       `default:"100" env:"DOORSTEP_MAX_ACCURACY" help:"Largest accuracy radius that is used in the speed check, metres; a larger one counts as this."`
	VagueAccuracy    float64       `default:"200" env:"DOORSTEP_VAGUE_ACCURACY" help:"A fix with a larger accuracy radius is answered, but not stored; metres."`
	Shadow           []string      `env:"DOORSTEP_SHADOW" enum:"low-accuracy,speed,ceiling" help:"Plausibility rules that accept and flag a fix instead of refusing it: low-accuracy, speed, ceiling."`
	ApproachFor      time.Duration `default:"60s" env:"DOORSTEP_APPROACH_FOR" help:"Time that must pass after a track has begun again until the trainer can arrive."`
	Detour           float64       `default:"0" env:"DOORSTEP_DETOUR" help:"Factor for the ETA: the length of the way divided by the straight-line distance. By default 0: the measured factor."`

	EventBus            string        `env:"DOORSTEP_EVENT_BUS" help:"Name or ARN of the EventBridge bus; region and credentials are the AWS SDK's own settings. Empty: the consumers run in this process."`
	EventBridgeEndpoint string        `env:"DOORSTEP_EVENTBRIDGE_ENDPOINT" help:"URL to use instead of the region's EventBridge endpoint."`
	LocationEvents      time.Duration `default:"0s" env:"DOORSTEP_LOCATION_EVENTS" help:"Shortest time between two TrainerLocationUpdated events of one journey, 1s or longer; needs event-bus. These events hold coordinates: see docs/events.md. By default 0s: none."`

	WebhookURL          string   `env:"DOORSTEP_WEBHOOK_URL" help:"URL that each event is also posted to, https://…; with and without event-bus. Needs webhook-secret. Empty: none. The same on all gateways: see docs/operate.md."`
	WebhookSecrets      []string `secret:"" env:"DOORSTEP_WEBHOOK_SECRET" help:"Secret that webhooks are signed with: whsec_ and 24 to 64 random bytes in base64. Two, as a list, while it is changed."`
	WebhookAllowPrivate bool     `env:"DOORSTEP_WEBHOOK_ALLOW_PRIVATE" help:"Allow webhook-url to be http and to lead to an address inside of the network."`

	FCMCredentials []byte        `env:"DOORSTEP_FCM_CREDENTIALS" help:"JSON file of the service account that sends pushes, or of a workload identity federation, or its content. Empty: pushes are logged, not sent."`
	FCMEndpoint    string        `env:"DOORSTEP_FCM_ENDPOINT" help:"URL to use instead of Google's, for tests."`
	SilenceReport  time.Duration `default:"15m" env:"DOORSTEP_SILENCE_REPORT" help:"Time without any fix after which a journey is reported as silent. 0: never."`

	KeepEvents      int `default:"7" env:"DOORSTEP_KEEP_EVENTS_DAYS" help:"Days that a published event stays in the outbox. 0: for ever."`
	KeepDeadLetters int `default:"30" env:"DOORSTEP_KEEP_DEAD_LETTERS_DAYS" help:"Days that a dead letter is kept. 0: for ever."`
	KeepAnalytics   int `default:"400" env:"DOORSTEP_KEEP_ANALYTICS_DAYS" help:"Days that a journey's row of analytics is kept after the start. 0: for ever."`
	KeepAudit       int `default:"400" env:"DOORSTEP_KEEP_AUDIT_DAYS" help:"Days that an entry of a session's history is kept. 0: for ever."`
	KeepPushTokens  int `default:"180" env:"DOORSTEP_KEEP_PUSH_TOKENS_DAYS" help:"Days that a push token is kept after it was last registered or reached by a push. 0: for ever."`

	KeepDevices int `default:"180" env:"DOORSTEP_KEEP_DEVICES_DAYS" help:"Days that a device is kept after it was made or last reported. 0: for ever."`

	ValkeyTimeout time.Duration `default:"250ms" env:"DOORSTEP_VALKEY_TIMEOUT" help:"Time limit of one call to the live store."`
	OTPInResponse bool          `default:"true" env:"DOORSTEP_OTP_IN_RESPONSE" help:"Return the code (OTP) in the answer to the trainer's arrival, too."`

	ShareLinks    string `default:"off" enum:"off,event" env:"DOORSTEP_SHARE_LINKS" help:"event: each journey's start makes a share link, and TrainerJourneyStarted has its URL as trackUrl in the webhook, and nowhere else; needs pages and webhook-url. off: links are made by call 23 only."`
	ShareLinksKey string `secret:"" env:"DOORSTEP_SHARE_LINKS_KEY" help:"Secret, 32 bytes or more, that the links of share-links=event are made with; the same on all gateways. Without a database and a live store a random one."`

	Pages           bool     `env:"DOORSTEP_PAGES" help:"Serve the web pages /t, /drive and /ops, and the calls of share links; see docs/pages.md. Needs public-url, but without a database and a live store."`
	MapStyleURL     string   `env:"DOORSTEP_MAP_STYLE_URL" help:"URL of the MapLibre style of the pages' map. Empty: a plain ground without streets."`
	FrameAncestors  []string `env:"DOORSTEP_FRAME_ANCESTORS" help:"Origins of web pages that may show the pages in a frame, such as https://app.example.com; a list. Empty: none."`
	PagesConnect    []string `env:"DOORSTEP_PAGES_CONNECT" help:"Origins, besides those of map-style-url and pages-oidc-issuer, that the pages may fetch from, such as of a map's tiles or of the issuer's token endpoint; a list."`
	PagesOIDCIssuer string   `env:"DOORSTEP_PAGES_OIDC_ISSUER" help:"URL of the OpenID Connect issuer at which people sign in to the pages. Its tokens must be those that the API accepts. Empty: nobody can sign in, and only share links work."`
	PagesOIDCClient string   `env:"DOORSTEP_PAGES_OIDC_CLIENT_ID" help:"The pages' client id at the issuer: a public client, with the code flow and PKCE."`
	PagesOIDCScope  string   `default:"openid" env:"DOORSTEP_PAGES_OIDC_SCOPE" help:"Scopes that the pages ask for, with a space between them."`
	// PagesPainted is a URL to which a page posts when it has painted a fix, for the demo.
	PagesPainted string

	MaxConns          int           `default:"0" env:"DOORSTEP_MAX_CONNS" help:"Largest number of open connections; further ones are closed at once. By default 0: 60,000, or as many as the memory limit of the process's control group has room for."`
	MaxConnsPerIP     int           `default:"0" env:"DOORSTEP_MAX_CONNS_PER_IP" help:"Largest number of open connections from one remote address. By default 0: no limit, because all connections of a load balancer have its address; see trusted-proxies."`
	TrustedProxies    []string      `env:"DOORSTEP_TRUSTED_PROXIES" help:"Addresses or networks of the proxies whose X-Forwarded-For and Forwarded are believed, such as 10.0.0.0/8; a list. For a client behind one, max-conns-per-ip limits the requests open at once. Empty: none."`
	MaxInFlight       int           `default:"4096" env:"DOORSTEP_MAX_IN_FLIGHT" help:"Largest number of requests in flight, without waiting long polls; further ones are answered 503 OVERLOADED."`
	CallerRate        float64       `default:"50" env:"DOORSTEP_CALLER_RATE" help:"Requests a second that one caller may send in the long run; further ones are answered 429. Admins have no limit. Negative: no limit."`
	CallerBurst       int           `default:"100" env:"DOORSTEP_CALLER_BURST" help:"Requests that one caller may send at once."`
	MaxWaits          int           `default:"0" env:"DOORSTEP_MAX_WAITS" help:"Largest number of open long polls; further ones are answered 503 OVERLOADED. By default 0: 100,000, or three quarters of the connections that the memory limit has room for."`
	MaxWait           time.Duration `default:"30s" env:"DOORSTEP_MAX_WAIT" help:"Longest time that a long poll waits, whatever it asks for; 1s to 30s. Shorter than what a proxy on the way allows for an answer."`
	MaxWaitsPerCaller int           `default:"4" env:"DOORSTEP_MAX_WAITS_PER_CALLER" help:"Largest number of open long polls of one caller for one session. One more takes the place of the oldest, which is answered 429. An admin may have 100, and so may the readers of a share link."`
	CORSOrigins       []string      `env:"DOORSTEP_CORS_ORIGINS" help:"Origins of web pages that may call the API from a browser, such as https://app.example.com; a list. Empty: none but the API's own."`
	ReadTimeout       time.Duration `default:"10s" env:"DOORSTEP_READ_TIMEOUT" help:"Time limit for reading a whole request."`
	WriteTimeout      time.Duration `default:"10s" env:"DOORSTEP_WRITE_TIMEOUT" help:"Time limit for each write of a response."`
	IdleTimeout       time.Duration `default:"75s" env:"DOORSTEP_IDLE_TIMEOUT" help:"Time after which a connection without a request is closed; it must be longer than the load balancer's idle time-out."`
	DrainTimeout      time.Duration `default:"25s" env:"DOORSTEP_DRAIN_TIMEOUT" help:"Time limit for ending all requests and background work after SIGTERM."`
	DrainDelay        time.Duration `default:"-1s" env:"DOORSTEP_DRAIN_DELAY" help:"Time between the first 503 of /readyz and the end of listening, in which the load balancer takes notice; it is part of the drain timeout. The default, any negative time: 5s, or none where listen is a loopback address."`

	// Version is the build's, for metrics.
	Version        string
	TracesEndpoint string `env:"DOORSTEP_TRACES_ENDPOINT" help:"URL of an OTLP/HTTP receiver of traces, for example http://host:4318. Empty: no traces. Sampling and other details are OpenTelemetry's own settings, for example OTEL_TRACES_SAMPLER."`

	// Now drives every rule and both in-process stores, and the scripts'
	// clock when it is set. Nil: the wall clock, and the live store's own TIME.
	Now func() time.Time
	// Log is where the gateway writes. Nil: nowhere.
	Log *slog.Logger
	// Listener is used instead of Listen, for tests.
	Listener net.Listener

	// Beside is a gateway of this process whose database in memory this one uses, too; nil:
	// its own. For regions in one process.
	Beside *App

	smallHeap bool          // FitMemory was called, and GOGC is not set
	leaseFor  time.Duration // sessions.LeaseOptions.For, for tests
}

// Embedded reports whether both stores are in the memory of this process.
func (o Options) Embedded() bool { return o.ValkeyURL == "" && o.DatabaseURL == "" }

// now is the clock of the rules and of the stores in memory.
func (o Options) now() func() time.Time {
	if o.Now == nil {
		return time.Now
	}
	return o.Now
}

// validateShared checks the settings that a worker has, too. Those that it has not are zero
// in its Options, which is valid for each.
func (o Options) validateShared() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"rate-interval", o.RateInterval},
		{"rate-tolerance", o.RateTolerance},
		{"location-ttl", o.LocationTTL},
		{"journey-ttl", o.JourneyTTL},
		{"valkey-timeout", o.ValkeyTimeout},
		{"drain-timeout", o.DrainTimeout},
		{"silence-report", o.SilenceReport},
		{"jwt-leeway", o.JWTLeeway},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s: %s is negative", d.name, d.value)
		}
	}
	if o.Region != "" && !sessions.ValidRegion(o.Region) {
		return fmt.Errorf("region: %q is not 1 to 32 lower-case letters, digits and hyphens", o.Region)
	}
	if o.ArrivalRadius < 0 || o.ArrivalRadius > 5000 {
		return fmt.Errorf("arrival-radius: %v is not in [0, 5000] metres", o.ArrivalRadius)
	}
	return nil
}

// validate returns an error that names the first invalid setting.
func (o Options) validate() error {
	if err := o.validateShared(); err != nil {
		return err
	}
	if err := o.validateLocationEvents(); err != nil {
		return err
	}
	if o.WebhookURL == "" && len(o.WebhookSecrets) > 0 {
		return errors.New("webhook-secret: there is no URL to send to: set DOORSTEP_WEBHOOK_URL")
	}
	for _, d := range []struct {
		name string
		days int
	}{
		{"keep-events-days", o.KeepEvents},
		{"keep-dead-letters-days", o.KeepDeadLetters},
		{"keep-analytics-days", o.KeepAnalytics},
		{"keep-audit-days", o.KeepAudit},
		{"keep-push-tokens-days", o.KeepPushTokens},
		{"keep-devices-days", o.KeepDevices},
	} {
		if d.days < 0 || d.days > maxKeepDays {
			return fmt.Errorf("%s: %d is not in [0, %d] days; 0 is for ever", d.name, d.days, maxKeepDays)
		}
	}
	if o.MaxWait != 0 && (o.MaxWait < time.Second || o.MaxWait > api.DefaultMaxWait) {
		return fmt.Errorf("max-wait: %s is not in [1s, %s]", o.MaxWait, api.DefaultMaxWait)
	}
	if delay := o.drainDelay(); o.DrainTimeout > 0 && delay >= o.DrainTimeout {
		return fmt.Errorf("drain-delay: %s leaves no time of the drain-timeout, %s", delay, o.DrainTimeout)
	}
	if math.IsNaN(o.CallerRate) || o.CallerBurst < 0 {
		return fmt.Errorf("caller-rate, caller-burst: %v and %d are no rate", o.CallerRate, o.CallerBurst)
	}
	if _, err := o.origins(); err != nil {
		return err
	}
	if _, err := o.trustedProxies(); err != nil {
		return err
	}
	if _, err := o.publicURL(); err != nil {
		return err
	}
	if _, err := o.regionList(); err != nil {
		return err
	}
	if _, err := o.pages(); err != nil {
		return err
	}
	if err := o.validateSharing(); err != nil {
		return err
	}
	if err := o.validateTLS(); err != nil {
		return err
	}
	for _, f := range []float64{
		o.ArrivalRadius, o.MaxSpeedCar, o.MaxSpeedBike, o.MaxSpeedWalk, o.CeilingCar, o.CeilingBike, o.CeilingWalk,
		o.DefaultAccuracy, o.MaxAccuracy, o.VagueAccuracy, o.Detour,
	} {
		if f < 0 || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("a radius, speed, accuracy or detour is %v; it must be a number, 0 or more", f)
		}
	}
	for _, m := range []struct {
		name           string
		limit, ceiling float64
	}{{"car", o.MaxSpeedCar, o.CeilingCar}, {"bike", o.MaxSpeedBike, o.CeilingBike}, {"walk", o.MaxSpeedWalk, o.CeilingWalk}} {
		if m.limit < 0 || m.ceiling != 0 && m.ceiling < m.limit {
			return fmt.Errorf("ceiling-%s: %v km/h is below max-speed-%s, %v", m.name, m.ceiling, m.name, m.limit)
		}
	}
	if o.keyless() && !o.Embedded() {
		return errors.New("no key material for tokens: set DOORSTEP_JWT_SECRET, DOORSTEP_JWKS_URL or DOORSTEP_ISSUERS")
	}
	if o.keyless() && o.Listener == nil && !loopback(o.Listen) {
		return fmt.Errorf("listen: %s is not a loopback address, so a secret is needed: set DOORSTEP_JWT_SECRET, DOORSTEP_JWKS_URL or DOORSTEP_ISSUERS", o.Listen)
	}
	return nil
}

func (o Options) validateSharing() error {
	event := o.ShareLinks == shareByEvent
	switch {
	case o.Pages && o.PublicURL == "" && !o.Embedded():
		return errors.New("pages: links to them need their address: set DOORSTEP_PUBLIC_URL")
	case event && !o.Pages:
		return errors.New("share-links: a link needs the page that it leads to: set DOORSTEP_PAGES")
	case event && o.WebhookURL == "":
		return errors.New("share-links: only the webhook has the links of events: set DOORSTEP_WEBHOOK_URL")
	case event && o.ShareLinksKey == "" && !o.Embedded():
		return errors.New("share-links: the links of events need a key: set DOORSTEP_SHARE_LINKS_KEY")
	case o.ShareLinksKey != "" && len(o.ShareLinksKey) < minShareLinksKey:
		return fmt.Errorf("share-links-key: it has fewer than %d bytes", minShareLinksKey)
	}
	return nil
}

const (
	shareByEvent     = "event" // of ShareLinks
	minShareLinksKey = 32
)

// eventLinks is the key of the links of events; nil: they have none.
func (o Options) eventLinks() []byte {
	switch {
	case o.ShareLinks != shareByEvent:
		return nil
	case o.ShareLinksKey == "":
		return []byte(rand.Text() + rand.Text())
	}
	return []byte(o.ShareLinksKey)
}

func (o Options) validateLocationEvents() error {
	switch {
	case o.LocationEvents == 0:
		return nil
	case o.LocationEvents < time.Second:
		return fmt.Errorf("location-events: %s is shorter than 1s", o.LocationEvents)
	case o.EventBus == "":
		return errors.New("location-events needs event-bus: without a bus nobody gets these events; set DOORSTEP_EVENT_BUS")
	}
	return nil
}

const (
	day         = 24 * time.Hour
	maxKeepDays = 36_500
	// keepDeliveries is how long a delivery that is done is kept: the outbox has its event.
	keepDeliveries = day
	// keepHandled is how long it is remembered that an event was handled: a day longer than
	// the queues keep a message (deploy/aws).
	keepHandled = 5 * day
)

// keep is how long rows are kept; 0 is for ever.
func (o Options) keep() map[sessions.Kept]time.Duration {
	days := func(n int) time.Duration { return time.Duration(n) * day }
	return map[sessions.Kept]time.Duration{
		sessions.DoneEvents: days(o.KeepEvents), sessions.DoneDeliveries: keepDeliveries,
		sessions.DeadEvents: days(o.KeepDeadLetters), sessions.DeadDeliveries: days(o.KeepDeadLetters),
		sessions.HandledEvents: keepHandled, sessions.JourneyRecords: days(o.KeepAnalytics),
		sessions.AuditEntries:     days(o.KeepAudit),
		sessions.UnusedPushTokens: days(o.KeepPushTokens), sessions.UnusedDevices: days(o.KeepDevices),
		sessions.OldShareLinks: sessions.ShareLinkWaits + day,
	}
}

// origins are CORSOrigins as browsers send them, and those of the regions: a page of one
// calls the others.
func (o Options) origins() ([]string, error) {
	list, err := originsOf("cors-origins", o.CORSOrigins)
	if err != nil {
		return nil, err
	}
	of, err := o.regionOrigins()
	return append(list, of...), err
}

// originsOf are the origins of a setting as browsers write them.
func originsOf(setting string, texts []string) ([]string, error) {
	var list []string
	for _, text := range texts {
		origin, err := api.ParseOrigin(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		list = append(list, origin)
	}
	return list, nil
}

// maxPublicURL keeps the link with a device's settings in one QR code.
const maxPublicURL = 200

// publicURL is PublicURL without a slash at the end.
func (o Options) publicURL() (string, error) {
	u, err := url.Parse(o.PublicURL)
	switch {
	case o.PublicURL == "":
		return "", nil
	case err != nil: // it quotes the URL, which may hold a password
		return "", errors.New("public-url: it is not a URL such as https://api.example.com")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || len(o.PublicURL) > maxPublicURL:
		return "", errors.New("public-url: it is not a URL such as https://api.example.com, of at most 200 characters")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || strings.HasSuffix(o.PublicURL, "#"):
		return "", errors.New("public-url: it has more than a scheme, a host, a port and a path")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// trustedProxies are TrustedProxies as networks.
func (o Options) trustedProxies() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range o.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if at, single := netip.ParseAddr(text); single == nil {
			network, err = at.Prefix(at.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("trusted-proxies: %q is no address and no network such as 10.0.0.0/8", text)
		}
		list = append(list, network.Masked())
	}
	return list, nil
}

func loopback(addr string) bool {
	if addr == "" {
		return true // the default is one
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// drainDelay is how long the gateway listens on after the first 503 of /readyz. A load
// balancer on the same machine is a test's, which sets it; nobody waits for a developer's.
func (o Options) drainDelay() time.Duration {
	switch {
	case o.DrainDelay >= 0:
		return o.DrainDelay
	case loopback(o.Listen):
		return 0
	default:
		return 5 * time.Second
	}
}

// regionNames are the regions that a booking may name.
func (o Options) regionNames() []string {
	list, err := o.regionList()
	if err != nil || len(list) == 0 { // validate has checked it
		return slices.DeleteFunc([]string{o.Region}, func(name string) bool { return name == "" })
	}
	var names []string
	for _, region := range list {
		names = append(names, region.Name)
	}
	return names
}

// live is the part of the settings that the live store applies.
func (o Options) live() sessions.LiveOptions {
	return sessions.LiveOptions{
		RateInterval: o.RateInterval, RateTolerance: o.RateTolerance, LocationTTL: o.LocationTTL, JourneyTTL: o.JourneyTTL,
		RadiusM:    o.ArrivalRadius,
		LimitKMH:   sessions.Speeds{Car: o.MaxSpeedCar, Bike: o.MaxSpeedBike, Walk: o.MaxSpeedWalk},
		CeilingKMH: sessions.Speeds{Car: o.CeilingCar, Bike: o.CeilingBike, Walk: o.CeilingWalk},
		Rules: geo.Limits{
			DefaultAccuracyM: o.DefaultAccuracy, MaxAccuracyM: o.MaxAccuracy, VagueM: o.VagueAccuracy,
			Shadow: geo.Shadow{
				LowAccuracy: slices.Contains(o.Shadow, "low-accuracy"),
				Speed:       slices.Contains(o.Shadow, "speed"),
				Ceiling:     slices.Contains(o.Shadow, "ceiling"),
			},
		},
	}
}
