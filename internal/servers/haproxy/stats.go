package haproxy

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// All is the name of the Stats of all backends, and of what reached none.
const All = "BACKEND"

// Stats are what HAProxy itself has counted of a backend since the start.
type Stats struct {
	InService bool
	Responses map[string]int // to callers, by the first digit of the status: "2xx"
	Refused   int            // connections to the gateway that could not be made
	Broken    int            // calls whose answer the gateway did not finish
}

// Stats asks HAProxy for its counters, by the backend's name and All.
func (s *Server) Stats(ctx context.Context) (map[string]Stats, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/haproxy;csv", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	lines, err := csv.NewReader(res.Body).ReadAll()
	if err != nil || len(lines) == 0 {
		return nil, fmt.Errorf("haproxy: stats: %d lines: %w", len(lines), err)
	}
	all := map[string]Stats{}
	for _, line := range lines[1:] {
		value := map[string]string{}
		for i, name := range lines[0] {
			value[name] = line[i]
		}
		number := func(name string) int {
			n, _ := strconv.Atoi(value[name])
			return n
		}
		if value["# pxname"] != "gateways" {
			continue
		}
		one := Stats{InService: strings.HasPrefix(value["status"], "UP"), Responses: map[string]int{}, Refused: number("econ"), Broken: number("eresp")}
		for digit := range "12345" {
			class := fmt.Sprintf("%dxx", digit+1)
			one.Responses[class] = number("hrsp_" + class)
		}
		all[value["svname"]] = one
	}
	return all, nil
}
