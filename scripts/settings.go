package scripts

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"doorstep/sessions"
)

// withSettings writes a gateway's settings over the defaults that a script
// declares in its lines `local NAME, NAME = value, value`. The script stays
// plain Lua that runs as it is, and a call pays nothing for a setting: as ARGV,
// the thirty of update.lua would have to be sent, parsed and converted every
// time. It panics for a name that the script does not declare, which is a bug
// of ours that every test would meet.
func withSettings(script string, values map[string]string) string {
	lines := strings.Split(script, "\n")
	used := 0
	for i, line := range lines {
		names, defaults, ok := declaration(line)
		if !ok {
			continue
		}
		for j, name := range names {
			if v, set := values[name]; set {
				defaults[j] = v
				used++
			}
		}
		lines[i] = "local " + strings.Join(names, ", ") + " = " + strings.Join(defaults, ", ")
	}
	if used != len(values) {
		panic(fmt.Sprintf("scripts: %d settings for a script that declares %d of them", len(values), used))
	}
	return strings.Join(lines, "\n")
}

// declaration reads `local NAME, NAME = value, value` with names in capitals.
func declaration(line string) (names, defaults []string, ok bool) {
	left, right, found := strings.Cut(line, " = ")
	list, isLocal := strings.CutPrefix(left, "local ")
	if !found || !isLocal || list != strings.ToUpper(list) {
		return nil, nil, false
	}
	names, defaults = strings.Split(list, ", "), strings.Split(right, ", ")
	return names, defaults, len(names) == len(defaults)
}

// updateSettings are the rules in the words of update.lua.
func updateSettings(o sessions.LiveOptions) map[string]string {
	return map[string]string{
		"RATE_MS": milliseconds(o.RateInterval), "TOLERANCE_MS": milliseconds(o.RateTolerance),
		"LOCATION_TTL_MS": milliseconds(o.LocationTTL), "JOURNEY_TTL_MS": milliseconds(o.JourneyTTL),
		"RADIUS_M": decimal(o.RadiusM), "STALE_MS": milliseconds(o.StaleAfter), "FUTURE_MS": integer(o.Rules.FutureMS),
		"LIMIT_CAR": decimal(o.LimitKMH.Car), "LIMIT_BIKE": decimal(o.LimitKMH.Bike), "LIMIT_WALK": decimal(o.LimitKMH.Walk),
		"CEILING_CAR": decimal(o.CeilingKMH.Car), "CEILING_BIKE": decimal(o.CeilingKMH.Bike), "CEILING_WALK": decimal(o.CeilingKMH.Walk),
		"DEFAULT_ACCURACY_DM": decimetres(o.Rules.DefaultAccuracyM), "MAX_ACCURACY_DM": decimetres(o.Rules.MaxAccuracyM),
		"VAGUE_DM": decimetres(o.Rules.VagueM), "JUMP_M": decimal(o.Rules.JumpM), "JUMP_MS": integer(o.Rules.JumpMS),
		"BANK_MS": integer(o.Rules.BankMS), "CATCH_UP_MS": integer(o.Rules.CatchUpMS), "GRACE_MS": integer(o.Rules.GraceMS),
		"CLOCK_SKEW_MS":       integer(o.Rules.ClockSkewMS),
		"SHADOW_LOW_ACCURACY": strconv.FormatBool(o.Rules.Shadow.LowAccuracy),
		"SHADOW_SPEED":        strconv.FormatBool(o.Rules.Shadow.Speed),
		"SHADOW_CEILING":      strconv.FormatBool(o.Rules.Shadow.Ceiling),
	}
}

func milliseconds(d time.Duration) string { return integer(d.Milliseconds()) }
func integer(n int64) string              { return strconv.FormatInt(n, 10) }
func decimal(f float64) string            { return strconv.FormatFloat(f, 'f', -1, 64) }
func decimetres(m float64) string         { return integer(int64(m*10 + 0.5)) }
