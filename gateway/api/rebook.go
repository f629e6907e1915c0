package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

// rebook changes a booking. A field that is absent or null stays as it is.
func (a *API) rebook(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body bookingBody
	if err := decode(c, &body); err != nil {
		return err
	}
	change, err := body.rebooking()
	if err != nil {
		return err
	}
	session, err := a.deps.Sessions.Rebook(ctx, caller, id, change)
	if err != nil {
		return err
	}
	return succeed(c, http.StatusOK, "Session changed", sessionOf(session, a.deps.Now()))
}

func (b bookingBody) rebooking() (out sessions.Rebooking, err error) {
	if out.TrainerID, err = optionalID("trainerId", b.TrainerID); err != nil {
		return out, err
	}
	if out.StudentID, err = optionalID("studentId", b.StudentID); err != nil {
		return out, err
	}
	if b.StudentHome != nil {
		home, err := b.StudentHome.point("studentHome.")
		if err != nil {
			return out, err
		}
		out.Home = &home
	}
	if b.ScheduledAt != nil {
		at, err := instant("scheduledAt", string(*b.ScheduledAt))
		if err != nil {
			return out, err
		}
		out.ScheduledAt = &at
	}
	if b.TravelMode != nil {
		mode, err := travelMode(b.TravelMode)
		if err != nil {
			return out, err
		}
		out.Mode = &mode
	}
	if b.Region != nil {
		region, err := regionName(*b.Region)
		if err != nil {
			return out, err
		}
		out.Region = &region
	}
	return out, nil
}

func optionalID(field string, text *string) (*sessions.ID, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // absent is no error
	}
	id, err := parseID(field, *text)
	return &id, err
}
