package client

import "time"

// Point is a place in degrees of WGS 84.
type Point struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// TravelMode decides which speeds are plausible. Empty where a call leaves it
// open: as booked, or car.
type TravelMode string

// The travel modes.
const (
	Car  TravelMode = "car"
	Bike TravelMode = "bike"
	Walk TravelMode = "walk"
)

// Booking is a session to be created. Ids are UUIDs.
type Booking struct {
	// SessionID makes a repeat harmless: the same id with the same booking is the
	// same session. Empty: the gateway takes a new one.
	SessionID   string
	TrainerID   string
	StudentID   string // not the trainer's
	ScheduledAt time.Time
	StudentHome Point
	TravelMode  TravelMode // empty: Car
	Region      string     // to which the journeys belong; empty: that of the first start
}

// Status is where a session stands.
type Status string

// The values of Status, in the order of a session's life.
const (
	Scheduled           Status = "scheduled"
	PendingVerification Status = "pending_verification"
	InProgress          Status = "in_progress"
	Completed           Status = "completed"
	Cancelled           Status = "cancelled"
)

// Session is a booked session. An instant is zero where it has not come yet.
type Session struct {
	SessionID        string     `json:"sessionId"`
	TrainerID        string     `json:"trainerId"`
	StudentID        string     `json:"studentId"`
	Status           Status     `json:"status"`
	ScheduledAt      time.Time  `json:"scheduledAt"`
	StudentHome      Point      `json:"studentHome"`
	TravelMode       TravelMode `json:"travelMode"`
	Region           string     `json:"region"` // empty: not decided yet, or there are no regions
	JourneyStartedAt time.Time  `json:"journeyStartedAt"`
	JourneyEndedAt   time.Time  `json:"journeyEndedAt"`
	JourneyEndReason string     `json:"journeyEndReason"` // arrived, cancelled or timeout; empty while it runs
	ArrivedAt        time.Time  `json:"arrivedAt"`
	OTP              string     `json:"otp"` // shown to the student and to admins only
	OTPExpiresAt     time.Time  `json:"otpExpiresAt"`
	StartedAt        time.Time  `json:"startedAt"` // of the lesson
	CompletedAt      time.Time  `json:"completedAt"`
	CreatedAt        time.Time  `json:"createdAt"`
}

// Journey is a journey that runs.
type Journey struct {
	SessionID string    `json:"sessionId"`
	TrainerID string    `json:"trainerId"`
	StudentID string    `json:"studentId"`
	StartedAt time.Time `json:"startedAt"`
}

// Fix is one position that a phone reports.
type Fix struct {
	Point
	AccuracyM  *float64  // radius around the position, metres; nil: the phone does not say
	SpeedKMH   *float64  // nil: not known
	HeadingDeg *float64  // nil: not known
	RecordedAt time.Time // by the phone's clock; zero: not known. With it a repeated fix is harmless.
	SentAt     time.Time // when the request leaves, by the clock of RecordedAt, so that a wrong clock does no harm; zero: not said
	Mock       bool      // the phone says that the position comes from a mock provider
}

// MaxBatch is how many fixes UpdateBatch takes.
const MaxBatch = 500

// Verdict is what became of a fix that was not refused.
type Verdict string

// The verdicts.
const (
	Stored      Verdict = "stored"       // 201: it is the live location
	LowAccuracy Verdict = "low_accuracy" // 201: too vague to store
	NoPosition  Verdict = "no_position"  // 201: 0° N 0° E
	BeforeStart Verdict = "before_start" // 201: taken before the journey began
	Stale       Verdict = "stale"        // 200: not newer than the live location; also the answer to a repeat
	TooSoon     Verdict = "too_soon"     // 200: too close in time to the live location
	NotStored   Verdict = "not_stored"   // 202: the live store is away
	Implausible Verdict = "implausible"  // 200: of the newest fix of a batch

)

// Verdicts of Receipt.Counts alone: the two kinds of Implausible.
const (
	JumpRefused  Verdict = "implausible_jump"
	SpeedRefused Verdict = "implausible_speed"
)

// Receipt is the answer to a fix that was not refused.
type Receipt struct {
	Verdict    Verdict
	At         time.Time     // by the store's clock; zero for NotStored
	TTL        time.Duration // how long the live location lives without another fix
	Seq        int64         // the version of the live location, as in View.ETag
	DistanceM  *float64      // to the home, metres; nil where nothing was stored
	Arriving   bool          // a fix of this journey was within the radius of the home
	NextUpdate time.Duration // from the answer until the next fix is due

	Counts map[Verdict]int // of a batch: how many fixes were judged how; nil for one fix
}

// Location is the live location of a trainer.
type Location struct {
	Point
	AccuracyM  *float64  `json:"accuracy"`
	SpeedKMH   *float64  `json:"speed"`
	HeadingDeg *float64  `json:"heading"`
	RecordedAt time.Time `json:"timestamp"` // Fix.RecordedAt, to the millisecond; else the store's clock
}

// View is what a student sees of a journey.
type View struct {
	SessionID  string    `json:"sessionId"`
	TrainerID  string    `json:"trainerId"`
	Location   *Location `json:"location"` // nil: there is none, or it is not known
	Active     bool      `json:"isActive"` // the journey runs
	LastUpdate time.Time `json:"lastUpdate"`
	DistanceM  *float64  `json:"distanceMeters"` // to the home, metres
	ETASeconds *int      `json:"etaSeconds"`
	Degraded   bool      `json:"degraded"` // the live store is away: Location is nil, and there is no ETag

	ETag        string `json:"-"` // the version; for the next read's ReadOptions.ETag
	NotModified bool   `json:"-"` // 304: nothing is newer than ReadOptions.ETag; all else is empty
}

// Arrival is the answer to an arrival.
type Arrival struct {
	SessionID string    `json:"sessionId"`
	OTP       string    `json:"otp"` // four digits; empty where the operator keeps it from the trainer
	ArrivedAt time.Time `json:"arrivedAt"`
}

// Review is what a student said of a session.
type Review struct {
	SessionID     string    `json:"sessionId"`
	Rating        int       `json:"rating"` // 1 to 5
	Comment       string    `json:"comment"`
	ReviewedAt    time.Time `json:"reviewedAt"`
	TrainerRating struct {
		Average float64 `json:"average"`
		Count   int64   `json:"count"`
	} `json:"trainerRating"`
}

// Platform is the system of a device that takes pushes.
type Platform string

// The platforms.
const (
	Android Platform = "android"
	IOS     Platform = "ios"
	Web     Platform = "web"
)

// Readiness says whether a gateway should get traffic, and why not.
type Readiness struct {
	Ready bool
	Parts map[string]string // the state of each part, such as liveStore: ok
}
