package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"doorstep/client"
	"doorstep/sessions"
)

// peopleShown is how many journeys' people one may sign in as.
const peopleShown = 10

// invite books the first journey and says where it can be watched in a browser. With
// Options.Wait it returns when somebody does. The links go to people alone, and not
// into the journal: they have a token.
func (d *demo) invite(ctx context.Context, shared *stage, staff sessions.ID) error {
	d.backend.people = append(d.people(), person{"The staff", sessions.Caller{ID: staff, Role: sessions.Admin}})
	d.backend.painted = func(recorded time.Time) {
		if took, ok := shared.paints.seen(recorded, time.Now()); ok {
			d.report.count(func(t *totals) { t.toPixel.add(took) })
		}
	}
	first, err := d.journey(ctx, shared, 0)
	if err != nil {
		return err
	}
	if _, err := insist(ctx, first, "booking", func(ctx context.Context, _ string) (client.Session, error) {
		return shared.admin.Book(ctx, first.booking)
	}); err != nil {
		return err
	}
	link, err := share(ctx, shared.admin, first.booking.SessionID)
	if err != nil {
		return err
	}
	links := []string{"map: " + link}
	if d.built(ctx) {
		links = append(links, "student: "+d.backend.gateways[0].base+"/t?session="+first.booking.SessionID, "staff: "+d.backend.gateways[0].base+"/ops")
	}
	d.links.Store(&links)
	if d.screen == nil {
		if _, err := io.WriteString(d.opts.Out, strings.Join(links, "\n")+"\n"); err != nil {
			return err
		}
	}
	if d.opts.Wait {
		select {
		case <-d.backend.opened:
		case <-ctx.Done():
		}
	}
	return nil
}

// share makes a share link and returns its URL.
func share(ctx context.Context, as *client.Client, session string) (string, error) {
	a, err := as.Do(ctx, client.Request{Method: http.MethodPost, Path: "/students/sessions/" + session + "/share-links"})
	var made struct {
		URL string `json:"url"`
	}
	if err == nil && a.Err != nil {
		err = a.Err
	}
	if err = errors.Join(err, json.Unmarshal(a.Data, &made)); err != nil {
		return "", fmt.Errorf("share link: %w", err)
	}
	return made.URL, nil
}

// built reports whether the pages are there that need a build.
func (d *demo) built(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.backend.gateways[0].base+"/ops", nil)
	if err != nil {
		return false
	}
	answer, err := d.http.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// people are those of the first journeys.
func (d *demo) people() (list []person) {
	for i, plan := range d.list.Plans[:min(peopleShown, len(d.list.Plans))] {
		who := partiesOf(randomness(d.opts.Seed, uint64(i)))
		list = append(list,
			person{"The student of " + plan.Name, sessions.Caller{ID: who.student, Role: sessions.Student}},
			person{"The trainer of " + plan.Name, sessions.Caller{ID: who.trainer, Role: sessions.Trainer}})
	}
	return list
}
