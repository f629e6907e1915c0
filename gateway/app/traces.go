package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"doorstep/gateway/api"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
)

// flushWithin bounds the last batch: a collector that is away must not hold up
// a drain, nor fail it.
const flushWithin = 2 * time.Second

// traces are the spans of one process, and the only thing that knows
// OpenTelemetry. The other packages have a hook each, which is nil where there
// are no traces; so is *traces, and nothing of the SDK is made then.
//
// A request is a span, with its calls of the two stores as children; so is an
// event that a consumer handles. No attribute is of a user, a place or a token:
// what they say comes from closed lists, but for the request's id, and, while the
// gateway logs at debug, the session's. Nor is an
// error's text; the log line with the trace's id has it.
type traces struct {
	endpoint string
	log      *slog.Logger
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// newTraces makes the traces of a service of that name; nil without an
// endpoint. It starts nothing. How many are kept, the name and what else
// describes the process are the SDK's own settings: OTEL_TRACES_SAMPLER,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
func newTraces(endpoint, service string, log *slog.Logger) (*traces, error) {
	if endpoint == "" {
		return nil, nil //nolint:nilnil // no traces are nil, and usable
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("traces-endpoint: %q is not http://host:port or https://host:port", endpoint)
	}
	about, err := resource.New(context.Background(), // it reads the environment
		resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", service)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(about))
	return &traces{
		endpoint: u.JoinPath("v1", "traces").String(), log: log, provider: provider, tracer: provider.Tracer("doorstep"),
	}, nil
}

// start begins to send. Spans wait for it in a queue of 2,048; what does not
// fit is dropped, so that no request waits for a collector.
func (t *traces) start(ctx context.Context) error {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.endpoint))
	if err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	t.provider.RegisterSpanProcessor(sdk.NewBatchSpanProcessor(exporting{exporter, t.log}))
	return nil
}

// stop sends what is left.
func (t *traces) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.WarnContext(ctx, "traces lost", slog.Any("error", err))
	}
	return nil
}

// exporting logs what else would go to OpenTelemetry's global error handler.
type exporting struct {
	sdk.SpanExporter
	log *slog.Logger
}

func (e exporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.log.WarnContext(ctx, "traces lost", slog.Int("spans", len(spans)), slog.Any("error", err))
	}
	return nil
}

// requests is api.Deps.Trace. The caller's trace goes on, where one is named.
func (t *traces) requests() func(context.Context, api.Call) (context.Context, api.EndTrace) {
	if t == nil {
		return nil
	}
	var w3c propagation.TraceContext
	return func(ctx context.Context, call api.Call) (context.Context, api.EndTrace) {
		if call.Traceparent != "" {
			ctx = w3c.Extract(ctx, propagation.MapCarrier{"traceparent": call.Traceparent, "tracestate": call.Tracestate})
		}
		ctx, span := t.tracer.Start(ctx, call.Method+" "+call.Route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("http.request.method", call.Method), attribute.String("http.route", call.Route),
			attribute.String("doorstep.request_id", call.RequestID)))
		if call.Amazon != "" {
			span.SetAttributes(attribute.String("doorstep.amzn_trace_id", call.Amazon))
		}
		return ctx, func(status int, code, session string) (traceID string) {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if code != "" {
				span.SetAttributes(attribute.String("error.type", code))
			}
			if session != "" {
				span.SetAttributes(attribute.String("doorstep.session_id", session))
			}
			if status >= 500 {
				span.SetStatus(codes.Error, "")
			}
			span.End()
			if about := span.SpanContext(); about.IsSampled() {
				traceID = about.TraceID().String()
			}
			return traceID
		}
	}
}

// calls is the Trace of the options of a store. What is not part of a traced
// request, such as a sweep, is not traced.
func (t *traces) calls(system string) func(context.Context, string) (context.Context, func(error)) {
	if t == nil {
		return nil
	}
	about := trace.WithAttributes(attribute.String("db.system.name", system))
	return func(ctx context.Context, what string) (context.Context, func(error)) {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return ctx, func(error) {}
		}
		ctx, span := t.tracer.Start(ctx, system+" "+what, trace.WithSpanKind(trace.SpanKindClient), about) //nolint:spancheck // ended by the function returned
		return ctx, func(err error) { ended(span, err) }                                                   //nolint:spancheck // it ends the span
	}
}

func ended(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// handled wraps a consumer's handler.
func (t *traces) handled(name string, h outbox.Handler) outbox.Handler {
	if t == nil {
		return h
	}
	return traced{h, t.tracer, name}
}

type traced struct {
	outbox.Handler
	tracer trace.Tracer
	name   string
}

func (h traced) Handle(ctx context.Context, e sessions.Event) error {
	ctx, span := h.tracer.Start(ctx, "handle "+h.name, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("doorstep.event_type", string(e.Type)), attribute.String("doorstep.event_id", string(e.ID))))
	if e.Trace != "" {
		span.SetAttributes(attribute.String("doorstep.amzn_trace_id", e.Trace))
	}
	err := h.Handler.Handle(ctx, e)
	ended(span, err)
	return err
}

// logger adds the trace's id to the lines that are written within one.
func (t *traces) logger(log *slog.Logger) *slog.Logger {
	if t == nil {
		return log
	}
	return slog.New(withTraceID{log.Handler()})
}

type withTraceID struct{ slog.Handler }

func (h withTraceID) Handle(ctx context.Context, r slog.Record) error {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withTraceID) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withTraceID{h.Handler.WithAttrs(attrs)}
}

func (h withTraceID) WithGroup(name string) slog.Handler {
	return withTraceID{h.Handler.WithGroup(name)}
}
