package sessions

import (
	"context"
	"regexp"
)

type traceKey struct{}

// xray is an X-Ray trace id. EventBridge refuses an event with any other text for good.
var xray = regexp.MustCompile(`^1-[0-9a-f]{8}-[0-9a-f]{24}$`)

// WithTrace notes the X-Ray trace in which the service is called, for the events that it
// raises. What is no trace id is passed over.
func WithTrace(ctx context.Context, trace string) context.Context {
	if !xray.MatchString(trace) {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, trace)
}

// traced notes the trace in events.
func traced(ctx context.Context, events []Event) []Event {
	if trace, ok := ctx.Value(traceKey{}).(string); ok {
		for i := range events {
			events[i].Trace = trace
		}
	}
	return events
}
