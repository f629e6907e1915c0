package main

// answered leaves out the reads that wait, whose latency is shown separately.
const answered = `route!~".+wait"`

func service() dashboard {
	return dashboard{"service", "Doorstep: service", [][]panel{
		{
			number("Ready gateways", "short", "How many say that they should get traffic.", query{"sum(doorstep_ready{" + chosen + "})", "ready"}),
			number("Versions", "short", "Processes by build.", query{"sum by (version) (doorstep_build_info{" + chosen + "})", "{{version}}"}),
			number("At work", "short", "Requests being worked on, long polls that wait, and open connections.",
				query{"sum(doorstep_requests_in_flight{" + chosen + "})", "requests"}, query{"sum(doorstep_waits_open{" + chosen + "})", "waits"},
				query{"sum(doorstep_connections_open{" + chosen + "})", "connections"}),
			number("Faults", "percentunit", "Answers that are 5xx; the alert begins at 1.4 %.", query{
				`sum(rate(doorstep_http_requests_total{` + chosen + `,status=~"5..",route!="/readyz"}[5m])) / sum(rate(doorstep_http_requests_total{` + chosen + `,route!="/readyz"}[5m]))`,
				"5xx",
			}),
		},
		{
			stack("Requests by route", "", perSecond("doorstep_http_requests_total", "", "route")),
			stack("Answers by status", "499: the caller had gone.", perSecond("doorstep_http_requests_total", "", "status")),
		},
		{
			of("Time to answer", "s", "All routes, without the reads that wait.",
				quantiles("doorstep_http_request_duration_seconds", answered, "", "50", "95", "99")...),
			of("Time to answer by route, p99", "s", "", quantiles("doorstep_http_request_duration_seconds", answered, "route", "99")...),
		},
		{
			stack("Refusals by code", "Most are normal: RATE_LIMITED, NOT_WITHIN_RADIUS. The runbook has what is not.", perSecond("doorstep_http_refusals_total", "", "code")),
			stack("Tokens refused by reason", "", perSecond("doorstep_unauthenticated_total", "", "reason")),
		},
		{
			of("Waits that ended, by outcome", "reqps", "changed is what polls are for; timed_out is a journey that stands still.", perSecond("doorstep_wait_duration_seconds_count", "", "outcome")),
			of("Turned away", "reqps", "Connections closed on arrival; requests refused before any handler, by status, and for load. The caller_… are one caller's doing.",
				perSecond("doorstep_connections_shed_total", "", "reason"), perSecond("doorstep_requests_malformed_total", "", "status"),
				perSecond("doorstep_requests_shed_total", "", "reason")),
			of("Calls sent on to other regions", "reqps", "Of journeys that belong there; nothing without DOORSTEP_REGIONS. All but answered and left: the region is away, or slow.",
				query{"sum by (region, outcome) (rate(doorstep_forwarded_calls_total{" + chosen + "}[$__rate_interval]))", "{{region}} {{outcome}}"}),
		},
		{
			of("Database connections", "short", "in_use at the maximum means that callers wait.",
				query{"sum by (state) (doorstep_database_connections{" + chosen + "})", "{{state}}"}, query{"sum(doorstep_database_connections_max{" + chosen + "})", "max"}),
			of("Waiting for a connection", "short", "Callers that wait, on average; and those that gave up, a second.",
				perSecond("doorstep_database_acquire_wait_seconds_total", "", ""), perSecond("doorstep_database_acquires_total", `how="left"`, "how")),
			of("Keys of tokens", "short", "Keys in use, and fetches of the JWKS a second; none with a shared secret.",
				query{"max by (issuer) (doorstep_jwks_keys{" + chosen + "})", "{{issuer}}"}, perSecond("doorstep_jwks_fetches_total", "", "result")),
		},
		{
			of("CPU", "short", "Cores in use.", query{"rate(process_cpu_seconds_total{" + chosen + `,job=~"doorstep-.+"}[$__rate_interval])`, "{{instance}}"}),
			of("Memory", "bytes", "Resident.", query{"process_resident_memory_bytes{" + chosen + `,job=~"doorstep-.+"}`, "{{instance}}"}),
			of("Goroutines", "short", "", query{"go_goroutines{" + chosen + `,job=~"doorstep-.+"}`, "{{instance}}"}),
			of("Descriptors", "percentunit", "Open, of those there may be.", query{"process_open_fds{" + chosen + `,job=~"doorstep-.+"} / process_max_fds`, "{{instance}}"}),
		},
	}}
}
