package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"doorstep/client"
	"doorstep/gateway/app"
	"doorstep/sessions"
)

// The three users of the examples, and the session that they share.
const (
	adminID   = "6b0e4b34-0f0e-4f7b-9a55-0c5f3a0d1e01"
	trainerID = "6b0e4b34-0f0e-4f7b-9a55-0c5f3a0d1e02"
	studentID = "6b0e4b34-0f0e-4f7b-9a55-0c5f3a0d1e03"
	sessionID = "6b0e4b34-0f0e-4f7b-9a55-0c5f3a0d1e04"
)

var home = client.Point{Latitude: 52.0907, Longitude: 5.1214}

// The gateway and the phones of the examples have one clock, which is 60 times as
// fast as yours, so that a ride of a minute takes a second. With time.Now leave the
// pauses of package client nil.
var (
	began = time.Now()
	now   = func() time.Time { return began.Add(60 * time.Since(began)) }
)

func wait(_ context.Context, d time.Duration) error {
	time.Sleep(d / 60)
	return nil
}

// embedded starts a gateway in this process and makes a client for each user.
// In production BaseURL is your gateway's, and Token asks your identity
// provider.
func embedded() (admin, trainer, student *client.Client, stop func()) {
	gateway, err := app.New(app.Options{Listen: "127.0.0.1:0", OTPInResponse: true, Now: now})
	if err != nil {
		panic(err)
	}
	if err := gateway.Start(context.Background()); err != nil {
		panic(err)
	}
	as := func(id sessions.ID, role sessions.Role) *client.Client {
		c, err := client.New(client.Options{
			BaseURL: "http://" + gateway.Addr().String(),
			Token: func(context.Context) (string, error) {
				return gateway.Token(sessions.Caller{ID: id, Role: role}, time.Hour)
			},
		})
		if err != nil {
			panic(err)
		}
		return c
	}
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = gateway.Stop(ctx)
	}
	return as(adminID, sessions.Admin), as(trainerID, sessions.Trainer), as(studentID, sessions.Student), stop
}

func book(ctx context.Context, admin *client.Client) {
	_, err := admin.Book(ctx, client.Booking{SessionID: sessionID, TrainerID: trainerID, StudentID: studentID, StudentHome: home})
	if err != nil {
		panic(err)
	}
}

// A session from its booking to its review.
func Example() {
	ctx := context.Background()
	admin, trainer, student, stop := embedded()
	defer stop()
	book(ctx, admin)

	if _, err := trainer.StartJourney(ctx, sessionID, client.Bike); err != nil {
		panic(err)
	}
	street := client.Point{Latitude: home.Latitude + 0.003, Longitude: home.Longitude}
	receipt, err := trainer.Update(ctx, sessionID, client.Fix{Point: street, AccuracyM: new(5.0), RecordedAt: now(), SentAt: now()})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, %.0f m from the home, arriving: %v\n", receipt.Verdict, *receipt.DistanceM, receipt.Arriving)
	_ = wait(ctx, time.Minute) // a phone sends a fix every 5 s meanwhile: see Reporter

	// Where the gateway has seen too little of a journey, Repeat waits and asks again.
	_, err = client.Repeat(ctx, 5, wait, nil, func(ctx context.Context) (client.Arrival, error) {
		return trainer.Arrive(ctx, sessionID, &client.Fix{Point: home, AccuracyM: new(5.0), RecordedAt: now(), SentAt: now()})
	})
	if err != nil {
		panic(err)
	}
	session, err := student.Session(ctx, sessionID) // the student reads the code out
	if err != nil {
		panic(err)
	}
	if _, err := trainer.Verify(ctx, sessionID, session.OTP); err != nil {
		panic(err)
	}
	if _, err := trainer.Complete(ctx, sessionID); err != nil {
		panic(err)
	}
	review, err := student.Review(ctx, sessionID, 5, "")
	if err != nil {
		panic(err)
	}
	fmt.Printf("rated %d, the trainer has %.1f\n", review.Rating, review.TrainerRating.Average)
	// Output:
	// stored, 334 m from the home, arriving: false
	// rated 5, the trainer has 5.0
}

// A refusal has a code, and what the code needs.
func ExampleError() {
	ctx := context.Background()
	admin, trainer, _, stop := embedded()
	defer stop()
	book(ctx, admin)

	_, err := trainer.Arrive(ctx, sessionID, nil)
	fmt.Println(errors.Is(err, &client.Error{Code: client.NoActiveJourney}))

	_, err = trainer.StartJourney(ctx, sessionID, "rocket")
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refusal.Status, refusal.Code, refusal.Message)
	}
	// Output:
	// true
	// 400 INVALID_REQUEST travelMode must be car, bike or walk
}

// A trainer's phone: the app reports each fix that its receiver gives, and the
// Reporter sends it when the gateway wants it. What waited for the network is one
// request.
func ExampleReporter() {
	ctx := context.Background()
	admin, trainer, _, stop := embedded()
	defer stop()
	book(ctx, admin)
	if _, err := trainer.StartJourney(ctx, sessionID, ""); err != nil {
		panic(err)
	}

	reporter := client.NewReporter(trainer, sessionID, client.ReporterOptions{
		OnAttempt: func(a client.Attempt) {
			fmt.Println("a batch:", a.Receipt.Counts[client.Stored], "stored", a.Err)
		},
		Now: now, Sleep: wait,
	})
	for range 6 { // in a tunnel
		reporter.Report(client.Fix{Point: home, AccuracyM: new(5.0), RecordedAt: now()})
		_ = wait(ctx, 6*time.Second)
	}
	done := make(chan error)
	go func() { done <- reporter.Run(ctx) }() // on the network
	reporter.Close()
	fmt.Println(<-done)
	// Output:
	// a batch: 6 stored <nil>
	// <nil>
}

// A student's app shows each view until the journey is over.
func ExampleFollower() {
	ctx := context.Background()
	admin, trainer, student, stop := embedded()
	defer stop()
	book(ctx, admin)
	if _, err := trainer.StartJourney(ctx, sessionID, ""); err != nil {
		panic(err)
	}

	for view, err := range (client.Follower{Client: student, SessionID: sessionID}).Views(ctx) {
		switch {
		case err != nil:
			fmt.Println("no signal:", err)
		case !view.Active:
			fmt.Println("the journey is over")
		case view.Location == nil:
			fmt.Println("on the way")
			fix := client.Fix{Point: client.Point{Latitude: 52.1, Longitude: 5.1214}, RecordedAt: now(), SentAt: now()}
			if _, err := trainer.Update(ctx, sessionID, fix); err != nil { // in another app, in life
				panic(err)
			}
		default:
			fmt.Printf("%.0f m away\n", *view.DistanceM)
			if _, err := trainer.StopJourney(ctx, sessionID); err != nil {
				panic(err)
			}
		}
	}
	// Output:
	// on the way
	// 1034 m away
	// the journey is over
}
