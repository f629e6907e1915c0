package sessions

import (
	"cmp"
	"context"
	"time"
)

// Repository is the contract of the store of record. There are two
// implementations: memory.Repository and postgres.Repository. Package repotest
// tests both against it.
//
// Safe for concurrent use. A fault is an *Error with DatabaseUnavailable. Each
// method names its refusals.
type Repository interface { //nolint:interfacebloat // six methods, and five parts that have names of their own
	// Create stores a new session. For an id that exists it reports false and
	// returns the stored session when the booking is the same; otherwise
	// SessionConflict.
	Create(ctx context.Context, s Session) (Session, bool, error)

	// CreateOnce is Create for a request with a key. For a key that the caller has used
	// within KeysFor it reports false and returns the session that was then stored, as
	// it is now; SessionConflict when the body was another, or the session is gone. A
	// refusal uses up no key.
	CreateOnce(ctx context.Context, key BookingKey, s Session) (Session, bool, error)

	// Session reads one session. Error: SessionNotFound.
	Session(ctx context.Context, id ID) (Session, error)

	// Change locks the session, calls f once with it, and stores what f made of it
	// together with the events that f returned, in one transaction. It returns the
	// changed session. When f fails, nothing is stored, and Change returns f's error
	// as it is, with the session before the change. Errors: SessionNotFound;
	// TrainerBusy when another journey of the trainer is running.
	Change(ctx context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error)

	// Rebook is Change that also stores what f made of the booking (SameBooking) and
	// HomeMovedAt. What else another service keeps in the home stays.
	Rebook(ctx context.Context, id ID, f func(*Session) ([]Event, error)) (Session, error)

	// Record stores an event that changes no session, in the order of the session's
	// other events. For an event id that has been recorded it reports false and
	// stores nothing. A JourneyArriving is stored only while its journey runs: else
	// Record reports false, too. Error: SessionNotFound.
	Record(ctx context.Context, e Event) (first bool, err error)

	Lists
	Reviews
	Users
	Analytics
	Leases
}

// LateReads are those reads of the Repository whose answers may be a second old where
// Service asks for them here: nothing is decided by them, nobody is let in by them, and what
// their caller has just written is told by the write itself. See docs/adr/0025.
type LateReads interface {
	Session(ctx context.Context, id ID) (Session, error) // for a history
	List(ctx context.Context, q SessionQuery) ([]Session, error)
	JourneysOf(ctx context.Context, id ID, limit int) ([]JourneyRecord, error)
	History(ctx context.Context, id ID, after HistoryPlace, limit int) ([]AuditEntry, error)
	Rating(ctx context.Context, trainerID ID) (Rating, error)
}

// Lists is the part of the Repository that reads many sessions at once.
type Lists interface {
	// Sessions reads the sessions with these ids; one that does not exist has no
	// entry.
	Sessions(ctx context.Context, ids []ID) (map[ID]Session, error)

	// Running lists up to limit sessions with a running journey that started at or
	// before startedBy, the longest running first; only those behind the journey
	// after, in this order, unless that is zero.
	Running(ctx context.Context, startedBy time.Time, after JourneyKey, limit int) ([]Session, error)

	// EndedSince lists up to limit sessions whose last journey has ended, in the order
	// of the end and the id, behind the instant and id given.
	EndedSince(ctx context.Context, at time.Time, after ID, limit int) ([]Session, error)

	// List lists sessions, latest booking first, those without a date last; then by
	// id, the highest first. A page continues after the entry of its cursor, whatever
	// was booked meanwhile.
	List(ctx context.Context, q SessionQuery) ([]Session, error)

	// RunningPage lists up to limit sessions with a running journey, the longest running
	// first, then by id. trainerID may be empty.
	RunningPage(ctx context.Context, trainerID ID, after Cursor, limit int) ([]Session, error)

	// RunningOf is the session with the trainer's running journey. It reports false
	// when there is none.
	RunningOf(ctx context.Context, trainerID ID) (Session, bool, error)
}

// Reviews is the part of the Repository that keeps reviews and ratings.
type Reviews interface {
	// Review locks the session, calls f once with it, and stores the review that f
	// returns, together with the trainer's new rating, in one transaction. When f
	// fails, nothing is stored, and Review returns f's error as it is. Errors:
	// SessionNotFound, AlreadyReviewed.
	Review(ctx context.Context, id ID, f func(Session) (Review, error)) (Rating, error)

	// ReviewOf reads a session's review. It reports false when there is none.
	ReviewOf(ctx context.Context, id ID) (Review, bool, error)

	// Rating is the sum of a trainer's reviews; zero without any.
	Rating(ctx context.Context, trainerID ID) (Rating, error)
}

// Users is the part of the Repository for a person's requests.
type Users interface {
	PushTokens
	Devices
	ShareLinks

	// UserData reads all that is kept of a user.
	UserData(ctx context.Context, userID ID) (UserData, error)

	// EraseUser closes the user's sessions (Session.CloseForErasure) and deletes homes
	// as a student, comments, devices and keys. Where no event of these sessions waits
	// to be delivered it then replaces the id everywhere by the alias; else it returns
	// how many wait, and a later call goes on. All or nothing of each. Errors:
	// JourneyRunning; NotSupported where the operator's table refuses the alias.
	EraseUser(ctx context.Context, e Erasure) (pending int, err error)
}

// Audit is the part of the Repository that keeps the histories of sessions. Every
// change of a session, in whichever method, stores the entries that AuditOf derives
// from it, with ActorOf(ctx), in its own transaction; so do Record (AuditEvent) and
// Review (AuditReview).
type Audit interface {
	// History lists up to limit entries of a session in the order of At and Seq, behind
	// the place given. Empty for a session that does not exist.
	History(ctx context.Context, id ID, after HistoryPlace, limit int) ([]AuditEntry, error)
	// LastParties reads who a session's parties became last, by its history; zero where that
	// does not say.
	LastParties(ctx context.Context, id ID) (Meta, error)
	// JourneysOf reads the records of a session's latest limit journeys, oldest first.
	JourneysOf(ctx context.Context, id ID, limit int) ([]JourneyRecord, error)
	// Note stores moments of a session, by the rules of AddCounts, whether or not it has
	// had a journey. It does nothing for a session that does not exist.
	Note(ctx context.Context, id ID, list []Moment) error
}

// HistoryPlace is the place of an entry in a history; zero for the beginning.
type HistoryPlace struct {
	At  time.Time
	Seq int64
}

// Compare is negative where p comes before with.
func (p HistoryPlace) Compare(with HistoryPlace) int {
	return cmp.Or(p.At.Compare(with.At), cmp.Compare(p.Seq, with.Seq))
}

// BookingKey names a request to book, so that a repeat is recognised.
type BookingKey struct {
	CallerID ID
	Key      string // the caller's
	BodyHash string
	At       time.Time
}

// KeysFor is how long a BookingKey is kept.
const KeysFor = 7 * 24 * time.Hour

// Analytics is the part of the Repository that keeps what is known of journeys
// after they have ended.
type Analytics interface {
	Audit

	// RecordJourney notes what a JourneyStarted or a JourneyEnded event says, and
	// returns what is then known of that journey. First is false when the event was
	// noted before. Other events are not noted.
	RecordJourney(ctx context.Context, e Event) (record JourneyRecord, first bool, err error)
	// AddCounts adds counts to the records of their journeys, and their moments to the
	// histories, of which a journey gets MomentsKept. It drops those of
	// a session that does not exist, belongs to another trainer or had no journey.
	AddCounts(ctx context.Context, list []JourneyCounts) error
	// JourneyRecord reads one record. It reports false when nothing is known.
	JourneyRecord(ctx context.Context, key JourneyKey) (JourneyRecord, bool, error)
	// LastSeen returns when each journey's phone last sent a fix. A journey whose
	// phone sent none has no entry.
	LastSeen(ctx context.Context, keys []JourneyKey) (map[JourneyKey]time.Time, error)
}

// JourneyKey is a journey's identity.
type JourneyKey struct {
	SessionID ID
	StartedAt time.Time
}

// JourneyRecord is what is known of one journey. The facts come from the events,
// the counts from the gateways. Either may be stored first.
type JourneyRecord struct {
	JourneyKey
	TrainerID ID
	StudentID ID
	EndedAt   time.Time // zero: not yet
	Reason    EndReason
	Counts
}

// Duration is how long the journey took; 0 while it has not ended.
func (r JourneyRecord) Duration() time.Duration {
	if r.EndedAt.IsZero() {
		return 0
	}
	return r.EndedAt.Sub(r.StartedAt)
}

// JourneyCounts is what one gateway has counted of one journey since its last
// flush. A gateway does not know for which journey of the session it counts, so the
// repository takes the session's latest one. Of a journey that is stopped and
// started again within a flush, at most two fixes go to the wrong record.
type JourneyCounts struct {
	Ref
	Counts
	Moments []Moment
}

// Counts is what became of a journey's fixes. Counts can be added up.
type Counts struct {
	Accepted int64 // stored as the live location
	Refused  int64 // implausible
	Stale    int64
	Vague    int64 // too inaccurate to store
	TooSoon  int64
	Flagged  int64 // stored or refused, with a flag
	// DistanceM is the sum of the distances from accepted fix to accepted fix.
	DistanceM float64
	// LastSeen is when the trainer's phone last sent a fix, whatever the verdict;
	// zero for never.
	LastSeen time.Time
	// Last is the last accepted fix. It is forgotten when the journey has ended.
	Last LastFix
	// FixToEye counts the times from the storing of a fix to the answer that showed
	// it to the student.
	FixToEye Latencies
}

// Add returns the sum of a and b.
func (a Counts) Add(b Counts) Counts {
	a.Accepted += b.Accepted
	a.Refused += b.Refused
	a.Stale += b.Stale
	a.Vague += b.Vague
	a.TooSoon += b.TooSoon
	a.Flagged += b.Flagged
	a.DistanceM = RoundM(a.DistanceM + b.DistanceM)
	if b.LastSeen.After(a.LastSeen) {
		a.LastSeen = b.LastSeen
	}
	if b.Last.At.After(a.Last.At) {
		a.Last = b.Last
	}
	for i, n := range b.FixToEye {
		a.FixToEye[i] += n
	}
	return a
}

// LatencyBoundsMS are the upper bounds of the buckets of Latencies. The last bucket
// also holds everything above. Each bound is about 1.5 times the one before, so a
// median that is read from the buckets has that accuracy. The SQL function
// doorstep_median_ms (migration 0004) has the same bounds.
var LatencyBoundsMS = [...]int64{25, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000, 60_000}

// Latencies counts latencies by bucket, so that those of several gateways can be
// added up and still have a median.
type Latencies [len(LatencyBoundsMS)]int64

// Count adds one latency. It is negative where this process's clock is behind the
// store's. That counts in the first bucket.
func (l *Latencies) Count(d time.Duration) {
	for i, bound := range LatencyBoundsMS {
		if d.Milliseconds() <= bound || i == len(l)-1 {
			l[i]++
			return
		}
	}
}

// MedianMS is the upper bound of the bucket that holds the median. It reports false
// without any latency.
func (l Latencies) MedianMS() (int64, bool) {
	var total, seen int64
	for _, n := range l {
		total += n
	}
	for i, n := range l {
		if seen += n; total > 0 && 2*seen >= total {
			return LatencyBoundsMS[i], true
		}
	}
	return 0, false
}
