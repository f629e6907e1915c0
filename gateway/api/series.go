package api

import (
	"net/http"
	"slices"
	"strings"

	"doorstep/sessions"
)

// The closed lists that Metrics is told of, so that every series can be there
// from the start.

// waited is what a live read's route ends in when it waited.
const waited = "?wait"

// Routes lists method and pattern of every route, and of what has none.
func (a *API) Routes() [][2]string {
	list := [][2]string{{http.MethodGet, "none"}}
	for _, r := range a.routes() {
		list = append(list, [2]string{r.method, r.path})
		if strings.HasSuffix(r.path, "/live") {
			list = append(list, [2]string{r.method, r.path + waited})
		}
	}
	return list
}

// UpdateVerdicts lists what can become of an update: what the live store says,
// "unavailable" when it says nothing, and "refused" before it is asked.
func UpdateVerdicts() []string {
	verdicts := []string{"unavailable", "refused"}
	for v := sessions.VerdictTooSoon; v <= sessions.VerdictStored; v++ {
		verdicts = append(verdicts, v.String())
	}
	return verdicts
}

// arrivalRefusals are the codes that are outcomes of their own.
var arrivalRefusals = []sessions.Code{
	sessions.NotWithinRadius, sessions.NoFreshLocation, sessions.SuspiciousLocation, sessions.NoActiveJourney,
}

// ArrivalOutcomes lists how a request to arrive can end.
func ArrivalOutcomes() []string {
	outcomes := []string{"arrived", "unavailable", "refused"}
	for _, code := range arrivalRefusals {
		outcomes = append(outcomes, strings.ToLower(string(code)))
	}
	return outcomes
}

func arrivalOutcome(err error) string {
	switch code := sessions.CodeOf(err); {
	case err == nil:
		return "arrived"
	case unavailable(err):
		return "unavailable"
	case slices.Contains(arrivalRefusals, code):
		return strings.ToLower(string(code))
	default:
		return "refused"
	}
}

// ShedRequestReasons lists why a request is refused for load.
func ShedRequestReasons() []string {
	return []string{ShedInFlight, ShedWaits, ShedCallerRate, ShedCallerWaits, ShedCallerLookups}
}
