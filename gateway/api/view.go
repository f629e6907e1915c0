package api

import (
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// answerLive shows a view to the session's parties.
func answerLive(c *app.RequestContext, v sessions.View) error {
	validators(c, v.Version)
	b := beginSuccess(c, http.StatusOK, "Live location")
	b = appendWord(b, "sessionId", v.SessionID)
	b = appendView(appendWord(b, "trainerId", v.TrainerID), v)
	if v.Degraded {
		b = append(b, `,"degraded":true`...)
	}
	endSuccess(c, b)
	return nil
}

// appendView appends what a share link shows, too.
func appendView(b []byte, v sessions.View) []byte {
	if v.Location == nil {
		b = appendNull(b, "location")
	} else {
		b = appendLocation(append(appendName(b, "location"), '{'), v.Location)
	}
	b = appendBool(b, "isActive", v.Active)
	b = appendWord(b, "phase", v.Phase())
	if v.Location == nil {
		b = append(b, `,"lastUpdate":null,"fixAgeMs":null,"distanceMeters":null,"etaSeconds":null`...)
	} else {
		b = appendTime(b, "lastUpdate", v.Location.At)
		b = appendInt(b, "fixAgeMs", v.FixAge().Milliseconds())
		b = appendFloat(b, "distanceMeters", v.DistanceM)
		b = appendETA(b, v)
	}
	return b
}

// appendLocation appends the fields of the object that the caller has opened, and
// closes the object. A field that the phone did not send is left out.
func appendLocation(b []byte, at *sessions.Location) []byte {
	b = appendFloat(b, "latitude", at.Point.Lat())
	b = appendFloat(b, "longitude", at.Point.Lng())
	if at.AccuracyM > 0 {
		b = appendFloat(b, "accuracy", at.AccuracyM)
	}
	if at.SpeedKMH != nil {
		b = appendFloat(b, "speed", *at.SpeedKMH)
	}
	if at.HeadingDeg != nil {
		b = appendFloat(b, "heading", *at.HeadingDeg)
	}
	return append(appendTime(b, "timestamp", at.RecordedAt), '}')
}

func appendETA(b []byte, v sessions.View) []byte {
	if eta := v.ETASeconds(); eta != nil {
		return appendInt(b, "etaSeconds", *eta)
	}
	return appendNull(b, "etaSeconds")
}
