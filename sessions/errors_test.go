package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

func TestError(t *testing.T) {
	t.Parallel()
	refusal := sessions.Refuse(sessions.OTPWrong, "the code is wrong")
	fault := sessions.Fault(sessions.DatabaseUnavailable, "try again", context.DeadlineExceeded)
	t.Run("text_is_for_logs_and_names_the_cause", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "OTP_WRONG: the code is wrong", refusal.Error())
		require.Equal(t, "DATABASE_UNAVAILABLE: try again: context deadline exceeded", fault.Error())
		require.Equal(t, "try again", fault.Message, "the cause is not for callers")
	})
	t.Run("is_compared_by_code", func(t *testing.T) {
		t.Parallel()
		wrapped := fmt.Errorf("verify: %w", refusal)
		require.ErrorIs(t, wrapped, &sessions.Error{Code: sessions.OTPWrong})
		require.NotErrorIs(t, wrapped, &sessions.Error{Code: sessions.OTPLocked})
		require.NotErrorIs(t, wrapped, errors.New("OTP_WRONG"))
		require.NotErrorIs(t, errors.New("OTP_WRONG"), refusal)
	})
	t.Run("shows_its_cause_to_errors.Is", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, fault, context.DeadlineExceeded)
		require.NoError(t, refusal.Unwrap())
		inner := sessions.Fault(sessions.Internal, "x", refusal)
		require.ErrorIs(t, inner, refusal, "a cause with a code is found, too")
	})
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	refusal := sessions.Refuse(sessions.Forbidden, "no")
	for name, test := range map[string]struct {
		err  error
		want sessions.Code
	}{
		"nil":              {nil, ""},
		"a_refusal":        {refusal, sessions.Forbidden},
		"wrapped":          {fmt.Errorf("a: %w", fmt.Errorf("b: %w", refusal)), sessions.Forbidden},
		"joined":           {errors.Join(errors.New("other"), refusal), sessions.Forbidden},
		"without_a_code":   {errors.New("other"), sessions.Internal},
		"the_outer_counts": {sessions.Fault(sessions.RateLimited, "x", refusal), sessions.RateLimited},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, sessions.CodeOf(test.err))
		})
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                   {nil, false},
		"a_refusal":             {sessions.Refuse(sessions.Forbidden, "no"), false},
		"without_a_code":        {errors.New("other"), false},
		"the_live_store":        {fmt.Errorf("update: %w", sessions.ErrUnavailable), true},
		"the_live_store's_code": {sessions.Refuse(sessions.LiveStoreUnavailable, "x"), true},
		"the_database":          {fmt.Errorf("start: %w", sessions.Refuse(sessions.DatabaseUnavailable, "x")), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, sessions.Unavailable(test.err))
		})
	}
}

// Codes are on the wire: a changed spelling, or two equal codes, would break clients,
// and no compiler sees it.
func TestCodes_are_distinct_and_in_capitals(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	seen := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, isName := spec.Type.(*ast.Ident); isName && of.Name == "Code" {
			value := spec.Values[0].(*ast.BasicLit).Value
			require.Regexp(t, `^"[A-Z]+(_[A-Z]+)*"$`, value)
			require.False(t, seen[value], value)
			seen[value] = true
		}
		return true
	})
	require.Greater(t, len(seen), 20)
}
