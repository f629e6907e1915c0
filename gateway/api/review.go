package api

import (
	"context"
	"net/http"

	"github.com/cloudwego/hertz/pkg/app"

	"doorstep/sessions"
)

type reviewBody struct {
	SessionID     sessions.ID `json:"sessionId"`
	Rating        int         `json:"rating"`
	Comment       string      `json:"comment,omitempty"`
	ReviewedAt    *string     `json:"reviewedAt"`
	TrainerRating ratingBody  `json:"trainerRating"`
}

// ratingBody is the average and the number of a trainer's ratings.
type ratingBody struct {
	Average float64 `json:"average"`
	Count   int64   `json:"count"`
}

// review records the student's rating of the lesson. The rating is a whole
// number; the decoder refuses 4.5.
func (a *API) review(ctx context.Context, c *app.RequestContext, caller sessions.Caller) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body struct {
		Rating  *int    `json:"rating"`
		Comment *string `json:"comment"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Rating == nil {
		return invalid("rating", "rating is required")
	}
	comment := ""
	if body.Comment != nil {
		comment = *body.Comment
	}
	review, err := a.deps.Sessions.Review(ctx, caller, id, *body.Rating, comment)
	if err != nil {
		return err
	}
	answer := reviewBody{
		SessionID: id, Rating: review.Stars, Comment: review.Comment, ReviewedAt: timestamp(review.At),
		TrainerRating: ratingBody{review.Rating.Average(), review.Rating.Count},
	}
	if review.Repeated {
		return succeed(c, http.StatusOK, "The review was stored before", answer)
	}
	return succeed(c, http.StatusCreated, "Thank you for the review", answer)
}
