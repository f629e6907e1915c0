package main

func journeys() dashboard {
	return dashboard{"journeys", "Doorstep: journeys", [][]panel{
		{
			of("Fix to eye", "s", "From a fix's being taken, by the phone's clock where that is sane, to a waiting student's answer. It has the mobile network in it, and the phone's clock.",
				quantiles("doorstep_fix_to_eye_seconds", `clock="phone"`, "", "50", "95", "99")...),
			of("Wake-up", "s", "From a fix's being stored to a waiting student's answer: publish, wake, read. Ours alone.",
				quantiles("doorstep_wake_up_seconds", "", "", "50", "95", "99")...),
		},
		{
			stack("Updates by verdict", "unavailable is answered 202 and lost; refused_… is implausible; refused was no business of the caller's.", perSecond("doorstep_updates_total", "", "verdict")),
			of("Oddities of fixes", "reqps", "Of fixes that were not refused for them.", perSecond("doorstep_fix_flags_total", "", "flag")),
		},
		{
			of("Requests to arrive, by outcome", "reqps", "", perSecond("doorstep_arrivals_total", "", "outcome")),
			of("ETA error", "s", "How far the estimate shown four to five minutes out was off when the trainer reached the fence. early: the trainer came sooner.",
				quantiles("doorstep_eta_error_seconds", "", "direction", "50", "90")...),
		},
		{
			of("Journeys", "short", "Started and ended a minute, as the analytics have noted.",
				query{"60 * sum(rate(doorstep_journeys_started_total{" + chosen + "}[$__rate_interval]))", "started"},
				query{"60 * sum by (reason) (rate(doorstep_journey_duration_seconds_count{" + chosen + "}[$__rate_interval]))", "{{reason}}"}),
			of("How long journeys take", "s", "", quantiles("doorstep_journey_duration_seconds", "", "reason", "50", "90")...),
			of("How far they go", "lengthm", "", quantiles("doorstep_journey_distance_meters", "", "reason", "50", "90")...),
		},
		{
			of("Suspicions", "short", "Raised in the last hour, by verdict.", query{"sum by (verdict) (increase(doorstep_journeys_suspicious_total{" + chosen + "}[1h]))", "{{verdict}}"}),
			of("Journeys timed out or silent", "short", "In the last hour: ended by their hour, and reported as silent.",
				query{"sum(increase(doorstep_journeys_timed_out_total{" + chosen + "}[1h]))", "timed out"},
				query{"sum(increase(doorstep_journeys_silent_total{" + chosen + "}[1h]))", "silent"}),
			of("Housekeeping", "reqps", "Sweeps, and journeys whose counts were written; error where the database was away.",
				perSecond("doorstep_journey_sweeps_total", "", "result").of("sweeps"),
				perSecond("doorstep_journey_tallies_total", "", "result").of("counts"),
				perSecond("doorstep_journey_tallies_dropped_total", "", "").of("counts dropped")),
		},
	}}
}
