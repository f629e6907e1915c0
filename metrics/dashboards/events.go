package main

func events() dashboard {
	return dashboard{"events", "Doorstep: events", [][]panel{
		{
			of("Outbox lag", "s", "Age of the oldest event that waits, by relay: bus, or a consumer in the gateways.", query{"max by (relay) (doorstep_outbox_lag_seconds{" + chosen + "})", "{{relay}}"}),
			of("Events that wait", "short", "", query{"max by (relay) (doorstep_outbox_waiting{" + chosen + "})", "{{relay}}"}),
			of("Dead letters", "short", "Given up until somebody looks: gateway outbox list.",
				query{"max by (relay) (doorstep_outbox_dead_letters{" + chosen + "})", "{{relay}}"},
				query{"sum by (relay) (increase(doorstep_events_buried_total{" + chosen + "}[1h]))", "{{relay}}, new in the last hour"}),
		},
		{
			of("From happening to taken", "s", "By relay.", quantiles("doorstep_event_publish_delay_seconds", "", "relay", "50", "99")...),
			of("Events taken", "reqps", "By relay.", perSecond("doorstep_event_publish_delay_seconds_count", "", "relay")),
			of("Attempts that failed, by why", "reqps", "rejected is the event's fault, down the bus's, store the database's.", perSecond("doorstep_event_failures_total", "", "why")),
		},
		{
			breaker("Bus breaker", "doorstep_event_bus_breaker_state"),
			stack("Pushes by outcome", "no_device and late are not errors.", perSecond("doorstep_pushes_total", "", "outcome")),
			breaker("Push breaker", "doorstep_push_breaker_state"),
		},
		{
			stack("Webhooks by outcome", "Zero unless DOORSTEP_WEBHOOK_URL is set. After gone nothing is sent until a restart.", perSecond("doorstep_webhook_duration_seconds_count", "", "outcome")),
			of("Answers of the receiver of webhooks", "s", "By outcome.", quantiles("doorstep_webhook_duration_seconds", "", "outcome", "50", "99")...),
			breaker("Webhook breaker", "doorstep_webhook_breaker_state"),
		},
		{
			of("Messages by result", "reqps", "Of the workers' queues.", perSecond("doorstep_message_handling_duration_seconds_count", "", "result")),
			of("Handling of messages", "s", "By consumer of the workers' queues.", quantiles("doorstep_message_handling_duration_seconds", "", "consumer", "50", "99")...),
			stack("Location events by result", "Zero unless DOORSTEP_LOCATION_EVENTS is set; all but sent are lost.", perSecond("doorstep_location_events_total", "", "result")),
			of("Old rows deleted", "reqps", "By table; see the retention settings.", perSecond("doorstep_rows_deleted_total", "", "table")),
		},
	}}
}
