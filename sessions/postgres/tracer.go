package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tracer calls Options.Trace for each statement, batch and wait for a connection. pgx
// finds the interfaces below by their methods.
type tracer struct {
	begin func(ctx context.Context, what string) (context.Context, func(error))
}

var (
	_ pgx.QueryTracer       = tracer{}
	_ pgx.BatchTracer       = tracer{}
	_ pgxpool.AcquireTracer = tracer{}
)

type endKey struct{}

func (t tracer) start(ctx context.Context, what string) context.Context {
	ctx, end := t.begin(ctx, what)
	return context.WithValue(ctx, endKey{}, end)
}

func (tracer) end(ctx context.Context, err error) {
	if end, ok := ctx.Value(endKey{}).(func(error)); ok {
		end(err)
	}
}

func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.start(ctx, nameOf(data.SQL))
}

func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	t.end(ctx, data.Err)
}

func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	name := "batch"
	if queries := data.Batch.QueuedQueries; len(queries) > 0 {
		name += " " + nameOf(queries[0].SQL)
	}
	return t.start(ctx, name)
}

func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (t tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, data.Err)
}

func (t tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return t.start(ctx, "acquire")
}

func (t tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	t.end(ctx, data.Err)
}

// nameOf is a statement's verb and first table: "select tutoring_sessions". The statements
// are constants of this package, so the names are a closed list.
func nameOf(sql string) string {
	words := strings.Fields(strings.ToLower(sql))
	if len(words) == 0 {
		return "empty"
	}
	for i, w := range words[:len(words)-1] {
		if w == "from" || w == "into" || w == "update" && words[i+1] != "skip" {
			return words[0] + " " + strings.Trim(words[i+1], "(),;")
		}
	}
	return strings.Trim(words[0], ";")
}
