package phones

import (
	"time"

	"doorstep/geo"
	"doorstep/internal/phoneapps"
)

// Way is a phone on its way to a home: one point in every, the last at end and
// metres away from it, at 36 km/h. A point's second is whole, as some formats tell no
// more.
func Way(home geo.Point, metres float64, end time.Time, n int, every time.Duration) []phoneapps.Point {
	points := make([]phoneapps.Point, n)
	for i := range points {
		before := time.Duration(n-1-i) * every
		at := geo.Offset(home, 0, metres+10*before.Seconds())
		points[i] = phoneapps.Point{
			Latitude: at.Lat(), Longitude: at.Lng(), AccuracyM: 8, SpeedMPS: 10, HeadingDeg: 180, At: end.Add(-before).Truncate(time.Second),
		}
	}
	return points
}

// onward is where the phone of a Way is n seconds later.
func onward(p phoneapps.Point, n int) phoneapps.Point {
	at := geo.Offset(geo.MustPoint(p.Latitude, p.Longitude), p.HeadingDeg, p.SpeedMPS*float64(n))
	p.Latitude, p.Longitude, p.At = at.Lat(), at.Lng(), p.At.Add(time.Duration(n)*time.Second)
	return p
}

// Twice has each point two times, as an app sends them that has lost an answer.
func Twice(points []phoneapps.Point) []phoneapps.Point {
	var twice []phoneapps.Point
	for _, p := range points {
		twice = append(twice, p, p)
	}
	return twice
}

// Scenarios are those that need a gateway alone. day is how many points the long
// backlog has: 17,280 are 24 hours at one in 5 s. second is how long the play takes for a
// second of the receiver. The phone is 3 km from the home at the end.
func Scenarios(home geo.Point, now time.Time, day int, second time.Duration) []Scenario {
	const away = 3000
	burst := Way(home, away, now, 60, time.Second)
	backlog := Way(home, away, now, day, 5*time.Second)
	return []Scenario{
		{Name: "1 Hz for a minute", Points: burst},
		{Name: "each point twice", Points: Twice(burst)},
		{Name: "a long backlog", Points: backlog},
		{Name: "live at 1 Hz behind it", Points: backlog, Live: 3 + day/864, LiveEvery: second},
		{Name: "restarts", Points: burst, RestartEvery: 7},
		{Name: "10 % of answers lost", Points: backlog[max(0, day-600):], LoseAnswers: 0.1, Seed: 1},
		{Name: "10 % answered 503", Points: backlog[max(0, day-600):], Refuse: 0.1, Seed: 2},
	}
}
