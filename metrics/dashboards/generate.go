// Command dashboards writes the Grafana dashboards beside it: go run
// ./metrics/dashboards. Grafana loads the JSON. The panels are defined in
// four Go files, one for each dashboard and named after it, which are shorter
// to read.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	folder := "metrics/dashboards"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := write(folder); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	for _, d := range []dashboard{service(), journeys(), liveStore(), events()} {
		text, err := json.MarshalIndent(d.grafana(), "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, d.name+".json"), append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// dashboard is one page: rows of panels that share its width.
type dashboard struct {
	name, title string
	rows        [][]panel
}

// panel is one picture of queries with one unit. help says what to make of it.
type panel struct {
	title, help, unit string
	queries           []query
	stat              bool // one number each, instead of lines
	stacked           bool
}

// query is an expression in PromQL; legend names its series.
type query struct{ expr, legend string }

// of makes a panel of lines.
func of(title, unit, help string, queries ...query) panel {
	return panel{title: title, unit: unit, help: help, queries: queries}
}

// number makes a panel of numbers.
func number(title, unit, help string, queries ...query) panel {
	p := of(title, unit, help, queries...)
	p.stat = true
	return p
}

// stack makes a panel of rates that add up, as areas.
func stack(title, help string, queries ...query) panel {
	p := of(title, "reqps", help, queries...)
	p.stacked = true
	return p
}

// chosen is the selector of every series: the instances chosen at the top.
const chosen = `instance=~"$instance"`

// quantiles are queries of a histogram, by the labels that series are to keep
// apart besides le; where narrows them.
func quantiles(metric, where, by string, qs ...string) []query {
	var list []query
	for _, q := range qs {
		legend, group := "p"+q, "le"
		if by != "" {
			legend, group = legend+" {{"+by+"}}", "le, "+by
		}
		list = append(list, query{
			fmt.Sprintf("histogram_quantile(0.%s, sum by (%s) (rate(%s_bucket{%s}[$__rate_interval])))", q, group, metric, join(chosen, where)),
			legend,
		})
	}
	return list
}

// perSecond is the rate of a counter, by one label.
func perSecond(metric, where, by string) query {
	expr := fmt.Sprintf("rate(%s{%s}[$__rate_interval])", metric, join(chosen, where))
	if by == "" {
		return query{"sum(" + expr + ")", "all"}
	}
	return query{fmt.Sprintf("sum by (%s) (%s)", by, expr), "{{" + by + "}}"}
}

// of names what the query counts in its legend, where a panel has several counts.
func (q query) of(what string) query { return query{q.expr, what + ", " + q.legend} }

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "," + b
}

// breaker is the state that is on, one instance a line.
func breaker(title, metric string) panel {
	return of(title, "short", "0 closed, 0.5 half open, 1 open: then nothing but probes is sent.", query{
		fmt.Sprintf(`max by (instance) (%s{%s,state="open"}) + 0.5 * max by (instance) (%s{%s,state="half-open"})`, metric, chosen, metric, chosen),
		"{{instance}}",
	})
}
