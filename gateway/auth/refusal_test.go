package auth

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Dashboards and alerts hold these words: changing one is breaking them.
func TestReasons_AreTheClosedList(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{
		"ok", "other", "missing", "malformed", "algorithm", "unknown_key", "signature", "expired",
		"not_yet_valid", "issuer", "audience", "token_use", "subject", "role", "keys_unavailable",
	}, Reasons())
}

func TestReasons_NameEverySentinelOfTheFile(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Err") {
			declared++
		}
		return true
	})
	require.Len(t, refusals(), declared)
}

func TestReason(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ok", Reason(nil))
	require.Equal(t, "expired", Reason(ErrExpired))
	require.Equal(t, "expired", Reason(fmt.Errorf("update: %w", ErrExpired)))
	require.Equal(t, "keys_unavailable", Reason(fmt.Errorf("%w: %w", ErrKeysUnavailable, context.Canceled)))
	require.Equal(t, "other", Reason(errors.New("disk on fire")))
}

func TestRefusals_AreTellApart(t *testing.T) {
	t.Parallel()
	for i, a := range refusals() {
		for j, b := range refusals() {
			require.Equal(t, i == j, errors.Is(a, b), "%v is %v", a, b)
		}
	}
}
