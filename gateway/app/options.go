package app

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
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
	Listen        string `default:"127.0.0.1:8080" env:"DOORSTEP_LISTEN" help:"Address of the public API, host:port."`
	MetricsListen string `default:"127.0.0.1:9090" env:"DOORSTEP_METRICS_LISTEN" help:"Address of /metrics; never a public one. Empty: none."`
	Pprof         bool   `env:"DOORSTEP_PPROF" help:"Serve /debug/pprof on the metrics address."`

	ValkeyURL   string `env:"DOORSTEP_VALKEY_URL" help:"Live store: redis:// or valkey://, with TLS rediss:// or valkeys://, or unix:///path. A cluster: any of its servers, more with ?addr=host:port&addr=…. Sentinels: theirs, with ?master_set=NAME. Empty: in this process."`
	ValkeyCA    []byte `env:"DOORSTEP_VALKEY_CA" help:"PEM file of the authority that signed the live store's certificates, where that is one of your own. Empty: the system's roots."`
	DatabaseURL string `env:"DOORSTEP_DATABASE_URL" help:"PostgreSQL: postgres://… Empty: in memory."`

	JWTSecret   string `env:"DOORSTEP_JWT_SECRET" help:"Secret of HS256 tokens, 32 bytes or more. Fully embedded and empty: a random one."`
	JWKSURL     string `env:"DOORSTEP_JWKS_URL" help:"Keys of RS256, ES256 and EdDSA tokens."`
	JWTIssuer   string `env:"DOORSTEP_JWT_ISSUER" help:"Required iss of a token. Empty: any."`
	JWTAudience string `env:"DOORSTEP_JWT_AUDIENCE" help:"Required aud of a token. Empty: any."`
	JWTSubject  string `default:"sub" env:"DOORSTEP_JWT_SUBJECT_CLAIM" help:"Claim that holds the user's id."`
	JWTRole     string `default:"role" env:"DOORSTEP_JWT_ROLE_CLAIM" help:"Claim that holds trainer, student or admin."`

	RateInterval     time.Duration `default:"5s" env:"DOORSTEP_RATE_INTERVAL" help:"Between two updates of one journey."`
	RateTolerance    time.Duration `default:"1s" env:"DOORSTEP_RATE_TOLERANCE" help:"How much earlier an update may come (GCRA)."`
	LocationTTL      time.Duration `default:"300s" env:"DOORSTEP_LOCATION_TTL" help:"How long a location lives after the last accepted fix."`
	JourneyTTL       time.Duration `default:"1h" env:"DOORSTEP_JOURNEY_TTL" help:"The longest journey."`
	ArrivalRadius    float64       `default:"150" env:"DOORSTEP_ARRIVAL_RADIUS" help:"Geofence around the home, metres."`
	ArrivalFreshness time.Duration `default:"60s" env:"DOORSTEP_ARRIVAL_FRESHNESS" help:"How old the last location may be for an arrival."`
	MaxSpeedCar      float64       `default:"120" env:"DOORSTEP_MAX_SPEED_CAR" help:"Plausible speed by car, km/h."`
	MaxSpeedBike     float64       `default:"30" env:"DOORSTEP_MAX_SPEED_BIKE" help:"Plausible speed by bike, km/h."`
	MaxSpeedWalk     float64       `default:"15" env:"DOORSTEP_MAX_SPEED_WALK" help:"Plausible speed on foot, km/h."`
	CeilingCar       float64       `default:"200" env:"DOORSTEP_CEILING_CAR" help:"What a car can do at all, km/h: over it a fix is refused until others agree."`
	CeilingBike      float64       `default:"60" env:"DOORSTEP_CEILING_BIKE" help:"The same by bike, km/h."`
	CeilingWalk      float64       `default:"30" env:"DOORSTEP_CEILING_WALK" help:"The same on foot, km/h."`
	DefaultAccuracy  float64       `default:"25" env:"DOORSTEP_DEFAULT_ACCURACY" help:"Of a fix that does not say, metres."`
	MaxAccuracy      float64       `default:"100" env:"DOORSTEP_MAX_ACCURACY" help:"How much doubt one fix may claim, metres."`
	VagueAccuracy    float64       `default:"200" env:"DOORSTEP_VAGUE_ACCURACY" help:"A worse accuracy is answered, not stored; metres."`
	Shadow           []string      `env:"DOORSTEP_SHADOW" enum:"low-accuracy,speed,ceiling" help:"Plausibility rules that only count and let pass: low-accuracy, speed, ceiling."`
	ApproachFor      time.Duration `default:"60s" env:"DOORSTEP_APPROACH_FOR" help:"How long a track that began anew must go on before it can arrive."`
	Detour           float64       `default:"0" env:"DOORSTEP_DETOUR" help:"How much longer than the straight line a way is, for the ETA. By default 0: as measured."`

	EventBus            string `env:"DOORSTEP_EVENT_BUS" help:"Name or ARN of the EventBridge bus; region and credentials are the AWS SDK's own settings. Empty: consumers in this process."`
	EventBridgeEndpoint string `env:"DOORSTEP_EVENTBRIDGE_ENDPOINT" help:"URL instead of the region's own endpoint."`

	FCMCredentials []byte        `env:"DOORSTEP_FCM_CREDENTIALS" help:"JSON file of the service account that sends pushes. Empty: pushes are logged, not sent."`
	FCMEndpoint    string        `env:"DOORSTEP_FCM_ENDPOINT" help:"URL instead of Google's own, for tests."`
	SilenceReport  time.Duration `default:"15m" env:"DOORSTEP_SILENCE_REPORT" help:"After how long without any fix a journey is reported as silent. 0: never."`

	ValkeyTimeout time.Duration `default:"250ms" env:"DOORSTEP_VALKEY_TIMEOUT" help:"Of one call to the live store."`
	OTPInResponse bool          `default:"true" env:"DOORSTEP_OTP_IN_RESPONSE" help:"Return the code to the trainer on arrival, too."`

	MaxConns          int           `default:"60000" env:"DOORSTEP_MAX_CONNS" help:"Open connections; newcomers over it are closed."`
	MaxConnsPerIP     int           `default:"0" env:"DOORSTEP_MAX_CONNS_PER_IP" help:"The same by remote address. By default 0: no limit (a load balancer is one address; see trusted-proxies)."`
	TrustedProxies    []string      `env:"DOORSTEP_TRUSTED_PROXIES" help:"Addresses or networks of the proxies whose X-Forwarded-For and Forwarded are believed, such as 10.0.0.0/8; a list. For a client behind one, max-conns-per-ip limits the requests open at once. Empty: none."`
	MaxInFlight       int           `default:"4096" env:"DOORSTEP_MAX_IN_FLIGHT" help:"Requests worked on at once, open long polls apart; more are answered 503 OVERLOADED."`
	CallerRate        float64       `default:"50" env:"DOORSTEP_CALLER_RATE" help:"Requests a second of one caller, admins excepted; more are answered 429. Negative: no limit."`
	CallerBurst       int           `default:"100" env:"DOORSTEP_CALLER_BURST" help:"Requests of one caller at once."`
	MaxWaits          int           `default:"100000" env:"DOORSTEP_MAX_WAITS" help:"Open long polls; more are answered 503 OVERLOADED."`
	MaxWaitsPerCaller int           `default:"4" env:"DOORSTEP_MAX_WAITS_PER_CALLER" help:"Open long polls of one caller for one session; one more takes the place of the oldest, which is answered 429. Admins: 100."`
	CORSOrigins       []string      `env:"DOORSTEP_CORS_ORIGINS" help:"Origins of web pages that may call the API from a browser, such as https://app.example.com; a list. Empty: none but the API's own."`
	ReadTimeout       time.Duration `default:"10s" env:"DOORSTEP_READ_TIMEOUT" help:"For a whole request to arrive."`
	WriteTimeout      time.Duration `default:"10s" env:"DOORSTEP_WRITE_TIMEOUT" help:"For a response to leave."`
	IdleTimeout       time.Duration `default:"75s" env:"DOORSTEP_IDLE_TIMEOUT" help:"Of a connection between requests; above the load balancer's."`
	DrainTimeout      time.Duration `default:"25s" env:"DOORSTEP_DRAIN_TIMEOUT" help:"For all to be answered after SIGTERM."`
	DrainDelay        time.Duration `default:"0s" env:"DOORSTEP_DRAIN_DELAY" help:"Between /readyz turning 503 and the listener closing, within the drain timeout. By default 0s: none."`

	// Version is the build's, for metrics.
	Version        string
	TracesEndpoint string `env:"DOORSTEP_TRACES_ENDPOINT" help:"URL of an OTLP/HTTP receiver of traces, http://host:4318. Empty: no traces. Sampling and the rest are OpenTelemetry's own settings, OTEL_TRACES_SAMPLER and so on."`

	// Now drives every rule and both in-process stores, and the scripts'
	// clock when it is set. Nil: the wall clock, and the live store's own TIME.
	Now func() time.Time
	// Log is where the gateway writes. Nil: nowhere.
	Log *slog.Logger
	// Listener is used instead of Listen, for tests.
	Listener net.Listener
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

// validate returns an error that names the first invalid setting.
func (o Options) validate() error {
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
	} {
		if d.value < 0 {
			return fmt.Errorf("%s: %s is negative", d.name, d.value)
		}
	}
	if o.ArrivalRadius < 0 || o.ArrivalRadius > 5000 {
		return fmt.Errorf("arrival-radius: %v is not in [0, 5000] metres", o.ArrivalRadius)
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
	if o.JWTSecret == "" && o.JWKSURL == "" && !o.Embedded() {
		return errors.New("no key material for tokens: set DOORSTEP_JWT_SECRET or DOORSTEP_JWKS_URL")
	}
	if o.JWTSecret == "" && o.JWKSURL == "" && o.Listener == nil && !loopback(o.Listen) {
		return fmt.Errorf("listen: %s is not a loopback address, so a secret is needed: set DOORSTEP_JWT_SECRET or DOORSTEP_JWKS_URL", o.Listen)
	}
	return nil
}

// origins are CORSOrigins as browsers send them.
func (o Options) origins() ([]string, error) {
	var list []string
	for _, text := range o.CORSOrigins {
		origin, err := api.ParseOrigin(text)
		if err != nil {
			return nil, fmt.Errorf("cors-origins: %w", err)
		}
		list = append(list, origin)
	}
	return list, nil
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
