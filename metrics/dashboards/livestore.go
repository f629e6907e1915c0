package main

func liveStore() dashboard {
	return dashboard{"live-store", "Doorstep: live store", [][]panel{
		{
			breaker("Breaker", "doorstep_live_store_breaker_state"),
			stack("Calls by verb", "", perSecond("doorstep_live_store_calls_total", "", "verb")),
			of("Calls by result", "reqps", "busy, breaker_open and not_connected were not sent at all; left is a caller that went, behind a gateway too busy to read the reply.", perSecond("doorstep_live_store_calls_total", "", "result")),
		},
		{
			of("Round trips", "s", "All verbs, script and way. The time-out is 250 ms unless set.", quantiles("doorstep_live_store_call_duration_seconds", "", "", "50", "95", "99")...),
			of("Round trips by verb, p99", "s", "", quantiles("doorstep_live_store_call_duration_seconds", "", "verb", "99")...),
			of("A script's time on the server", "s", "The mean, by the server's own count; what Round trips has more is the way.", query{
				"max(rate(doorstep_live_store_script_seconds_total{" + chosen + "}[$__rate_interval])) / max(rate(doorstep_live_store_scripts_total{" + chosen + "}[$__rate_interval]))",
				"mean",
			}),
		},
		{
			of("Calls in flight", "short", "One pipeline a gateway; over the limit a call fails at once.",
				query{"doorstep_live_store_calls_in_flight{" + chosen + "}", "{{instance}}"}, query{"max(doorstep_live_store_calls_limit{" + chosen + "})", "limit"}),
			of("Fixes not stored", "percentunit", "Updates answered 202, of all.", query{
				`sum(rate(doorstep_updates_total{` + chosen + `,verdict="unavailable"}[$__rate_interval])) / sum(rate(doorstep_updates_total{` + chosen + `}[$__rate_interval]))`, "not stored",
			}),
			of("Scripts run on the server", "ops", "Of all clients of the server.", query{"max(rate(doorstep_live_store_scripts_total{" + chosen + "}[$__rate_interval]))", "scripts"}),
		},
	}}
}
