package sessions

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

// maxComment bounds a review's comment, in characters.
const maxComment = 2000

// Review is a student's review of a completed session. A session has at most one.
type Review struct {
	SessionID ID
	TrainerID ID
	StudentID ID
	Stars     int    // 1 to 5
	Comment   string // may be empty
	At        time.Time
}

// Rating is the sum and the number of a trainer's stars. A new review changes it
// without a read of the others.
type Rating struct{ Sum, Count int64 }

// Average is the mean of the stars; 0 without any.
func (r Rating) Average() float64 {
	if r.Count == 0 {
		return 0
	}
	return float64(r.Sum) / float64(r.Count)
}

// Reviewed is a review that is stored, and the trainer's rating with it.
type Reviewed struct {
	Review
	Rating   Rating
	Repeated bool // the same review was stored before
}

// Review stores the review of the session's student. The same review again changes
// nothing. Errors: InvalidRequest, SessionNotFound, Forbidden, NotCompleted,
// AlreadyReviewed, DatabaseUnavailable.
func (s *Service) Review(ctx context.Context, c Caller, id ID, stars int, comment string) (Reviewed, error) {
	if err := checkReview(stars, comment); err != nil {
		return Reviewed{}, err
	}
	c, ok := c.As(Student)
	if !ok {
		return Reviewed{}, Refuse(Forbidden, "only the session's student may review it")
	}
	var review Review
	// A write that has begun is completed, as in change.
	rating, err := s.repo.Review(actingFor(context.WithoutCancel(ctx), c), id, func(session Session) (Review, error) {
		if c.ID != session.StudentID {
			return Review{}, Refuse(Forbidden, "only the session's student may review it")
		}
		if session.Status != Completed {
			return Review{}, Refuse(NotCompleted, "the session is "+string(session.Status)+", not completed")
		}
		review = Review{
			SessionID: id, TrainerID: session.TrainerID, StudentID: session.StudentID,
			Stars: stars, Comment: comment, At: ms(s.opts.Now()),
		}
		return review, nil
	})
	if CodeOf(err) == AlreadyReviewed {
		return s.reviewedBefore(ctx, review, err)
	}
	return Reviewed{Review: review, Rating: rating}, err
}

// reviewedBefore is the answer to a review of a session that has one.
func (s *Service) reviewedBefore(ctx context.Context, again Review, refusal error) (Reviewed, error) {
	stored, ok, err := s.repo.ReviewOf(ctx, again.SessionID)
	if err != nil {
		return Reviewed{}, err
	}
	if !ok || stored.StudentID != again.StudentID || stored.Stars != again.Stars || stored.Comment != again.Comment {
		return Reviewed{}, refusal
	}
	rating, err := s.repo.Rating(ctx, stored.TrainerID)
	return Reviewed{Review: stored, Rating: rating, Repeated: true}, err
}

func checkReview(stars int, comment string) error {
	switch {
	case stars < 1 || stars > 5:
		return InvalidField("rating", "rating must be a whole number from 1 to 5")
	case !utf8.ValidString(comment) || strings.ContainsRune(comment, 0):
		return InvalidField("comment", "comment must be text") // PostgreSQL cannot store the zero character
	case utf8.RuneCountInString(comment) > maxComment:
		return InvalidField("comment", "comment must be at most 2000 characters")
	}
	return nil
}
