package scripts

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"doorstep/sessions"
)

// withSettings returns a script with a value in place of each constant that it
// declares in lines of the form `local NAME, NAME = value, value`: the setting
// of that name, or else the default from the line. The script stays plain Lua
// that also runs as it is. So a constant costs a call nothing. As ARGV, the
// settings of update.lua would be sent, parsed and converted in every call. As
// Lua locals, its sixty constants cost 2 % of a call (callgrind). Line numbers
// stay as they are in the file. It panics for a setting that the script does not
// declare, which is a bug that every test would find.
func withSettings(script string, settings map[string]string) string {
	lines := strings.Split(script, "\n")
	values, used := map[string]string{}, 0
	for i, line := range lines {
		names, defaults, ok := declaration(line)
		if !ok {
			continue
		}
		for j, name := range names {
			values[name] = defaults[j]
			if v, set := settings[name]; set {
				values[name] = v
				used++
			}
		}
		lines[i] = ""
	}
	if used != len(settings) {
		panic(fmt.Sprintf("scripts: %d settings for a script that declares %d of them", len(settings), used))
	}
	for i, line := range lines {
		code, _, _ := strings.Cut(line, "--") // no script has that in a string
		lines[i] = constantName.ReplaceAllStringFunc(code, func(name string) string {
			return cmp.Or(values[name], name)
		})
	}
	return strings.Join(lines, "\n")
}

// constantName matches a constant in code. It also matches commands and flags in
// strings, whose names no constant has.
var constantName = regexp.MustCompile(`\b[A-Z][A-Z0-9_]+\b`)

// declaration reads `local NAME, NAME = value, value`, with names in capitals.
func declaration(line string) (names, defaults []string, ok bool) {
	left, right, found := strings.Cut(line, " = ")
	list, isLocal := strings.CutPrefix(left, "local ")
	if !found || !isLocal || list != strings.ToUpper(list) {
		return nil, nil, false
	}
	names, defaults = strings.Split(list, ", "), strings.Split(right, ", ")
	return names, defaults, len(names) == len(defaults)
}

// updateSettings are the rules of a live store, under the names of update.lua.
func updateSettings(o sessions.LiveOptions) map[string]string {
	return map[string]string{
		"RATE_MS": milliseconds(o.RateInterval), "TOLERANCE_MS": milliseconds(o.RateTolerance),
		"LOCATION_TTL_MS": milliseconds(o.LocationTTL), "JOURNEY_TTL_MS": milliseconds(o.JourneyTTL),
		"RADIUS_M": decimal(o.RadiusM), "STALE_MS": milliseconds(o.StaleAfter), "FUTURE_MS": integer(o.Rules.FutureMS),
		"LIMIT_CAR": decimal(o.LimitKMH.Car), "LIMIT_BIKE": decimal(o.LimitKMH.Bike), "LIMIT_WALK": decimal(o.LimitKMH.Walk),
		"CEILING_CAR": decimal(o.CeilingKMH.Car), "CEILING_BIKE": decimal(o.CeilingKMH.Bike), "CEILING_WALK": decimal(o.CeilingKMH.Walk),
		"DEFAULT_ACCURACY_DM": decimetres(o.Rules.DefaultAccuracyM), "MAX_ACCURACY_DM": decimetres(o.Rules.MaxAccuracyM),
		"VAGUE_DM": decimetres(o.Rules.VagueM), "JUMP_M": decimal(o.Rules.JumpM), "JUMP_MS": integer(o.Rules.JumpMS),
		"BANK_MS": integer(o.Rules.BankMS), "GRACE_MS": integer(o.Rules.GraceMS),
		"SHADOW_LOW_ACCURACY": strconv.FormatBool(o.Rules.Shadow.LowAccuracy),
		"SHADOW_SPEED":        strconv.FormatBool(o.Rules.Shadow.Speed),
		"SHADOW_CEILING":      strconv.FormatBool(o.Rules.Shadow.Ceiling),
	}
}

func milliseconds(d time.Duration) string { return integer(d.Milliseconds()) }
func integer(n int64) string              { return strconv.FormatInt(n, 10) }
func decimal(f float64) string            { return strconv.FormatFloat(f, 'f', -1, 64) }
func decimetres(m float64) string         { return integer(int64(m*10 + 0.5)) }
