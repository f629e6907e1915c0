package scripts

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"doorstep/sessions"
)

// rules are the settings that update.lua takes, printed once: ARGV 9 to 19.
type rules []string

func rulesOf(o sessions.LiveOptions) rules {
	limits := decimal(o.MaxSpeedCarKMH) + "," + decimal(o.MaxSpeedBikeKMH) + "," + decimal(o.MaxSpeedWalkKMH)
	return rules{
		milliseconds(o.RateInterval), milliseconds(o.RateTolerance),
		milliseconds(o.LocationTTL), milliseconds(o.JourneyTTL),
		decimal(o.RadiusM), decimal(o.VagueM), limits, decimal(o.MaxJumpM), milliseconds(o.JumpWindow),
		milliseconds(o.FutureTolerance), milliseconds(o.StaleAfter),
	}
}

// Publish keeps the contract of sessions.Live: update.lua in one round trip.
func (s *Store) Publish(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	args := append(s.fixArgs(ref, fix), s.rules...)
	res, err := s.call(ctx, "update", func(ctx context.Context, c valkey.Client) valkey.ValkeyResult {
		return s.update.Exec(ctx, c, []string{journeyKey(ref)}, args)
	})
	if err != nil {
		return sessions.Receipt{}, err
	}
	reply, err := res.ToArray()
	if err != nil {
		return sessions.Receipt{}, fmt.Errorf("update reply: %w", err)
	}
	return receiptOf(reply)
}

// fixArgs are ARGV 1 to 8.
func (s *Store) fixArgs(ref sessions.Ref, fix sessions.Fix) []string {
	args := make([]string, 0, 8+len(s.rules))
	return append(args,
		liveChannel(ref), s.clock(),
		string(fix.Point.AppendLat(nil)), string(fix.Point.AppendLng(nil)),
		tenths(fix.AccuracyM), tenthsOf(fix.SpeedKMH), tenthsOf(fix.HeadingDeg), unixMS(fix.RecordedAt))
}

// verdicts are update.lua's return codes, in order.
var verdicts = [...]sessions.Verdict{
	sessions.VerdictUnknown, sessions.VerdictEnded, sessions.VerdictTooSoon, sessions.VerdictStale,
	sessions.VerdictVague, sessions.VerdictJump, sessions.VerdictSpeed, sessions.VerdictStored,
}

// receiptOf reads update.lua's reply. A reply of any other shape is a fault of
// ours, never a panic.
func receiptOf(reply []valkey.ValkeyMessage) (sessions.Receipt, error) {
	n, err := integers(reply[:min(len(reply), 6)])
	if err != nil || len(n) == 0 || n[0] < 0 || n[0] >= int64(len(verdicts)) {
		return sessions.Receipt{}, fmt.Errorf("update reply: code out of range in %d fields (%w)", len(reply), err)
	}
	r := sessions.Receipt{Verdict: verdicts[n[0]]}
	if want := replyLen(r.Verdict); len(reply) != want {
		return sessions.Receipt{}, fmt.Errorf("update reply: %d fields for code %d, want %d", len(reply), n[0], want)
	}
	switch {
	case r.Verdict <= sessions.VerdictEnded:
	case r.Verdict == sessions.VerdictTooSoon:
		r.At, r.RetryAfter = instant(n[1]), milli(n[2])
	default:
		r.At, r.NextUpdate, r.Version, r.TTL, r.Arriving = instant(n[1]), milli(n[2]), n[3], milli(n[4]), n[5] == 1
	}
	if r.Verdict == sessions.VerdictStored {
		if r.DistanceM, err = reply[6].AsFloat64(); err != nil {
			return sessions.Receipt{}, fmt.Errorf("update reply: distance: %w", err)
		}
	}
	return r, nil
}

func replyLen(v sessions.Verdict) int {
	switch {
	case v <= sessions.VerdictEnded:
		return 1
	case v == sessions.VerdictTooSoon:
		return 3
	case v == sessions.VerdictStored:
		return 7
	default:
		return 6
	}
}

func integers(reply []valkey.ValkeyMessage) ([]int64, error) {
	n := make([]int64, len(reply))
	for i := range reply {
		v, err := reply[i].ToInt64()
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	return n, nil
}

func instant(unixMS int64) time.Time { return time.UnixMilli(unixMS).UTC() }
func milli(n int64) time.Duration    { return time.Duration(n) * time.Millisecond }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
func decimal(f float64) string            { return strconv.FormatFloat(f, 'f', -1, 64) }
func tenths(f float64) string             { return strconv.FormatFloat(f, 'f', 1, 64) }

func tenthsOf(f *float64) string {
	if f == nil {
		return ""
	}
	return tenths(*f)
}

func unixMS(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}
