package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// The list of codes is closed: openapi.yaml lists exactly the codes that sessions
// and this package declare, and status maps each without its default case.
func TestStatus_is_total_over_the_closed_list(t *testing.T) {
	t.Parallel()
	declared := map[string]string{} // values by constant
	for _, file := range []string{"../../sessions/errors.go", "problem.go"} {
		n := len(declared)
		declareCodes(t, file, declared)
		require.Greater(t, len(declared), n, file)
	}
	codes := slices.Collect(maps.Values(declared))
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	require.NoError(t, err)
	var listed []string
	for _, v := range doc.Components.Schemas["Code"].Value.Enum {
		listed = append(listed, v.(string))
	}
	assert.ElementsMatch(t, codes, listed, "the constants and Code's enum in openapi.yaml")
	var said []string
	for _, c := range Codes() {
		said = append(said, string(c))
	}
	assert.ElementsMatch(t, codes, said, "the constants and Codes()")
	assert.ElementsMatch(t, codes, mappedCodes(t, declared), "the constants and the cases of status()")
	for _, code := range codes {
		s := status(sessions.Code(code))
		assert.Equal(t, code == string(sessions.Internal), s == 500, code)
	}
}

// declareCodes adds the constants of type Code in a file, by name.
func declareCodes(t *testing.T, path string, into map[string]string) {
	t.Helper()
	ast.Inspect(parsed(t, path), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil || nameOf(spec.Type) != "Code" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.NotContains(t, into, spec.Names[0].Name)
		into[spec.Names[0].Name] = text
		return true
	})
}

// mappedCodes lists the values of the cases of status's switch.
func mappedCodes(t *testing.T, declared map[string]string) []string {
	t.Helper()
	var codes []string
	ast.Inspect(parsed(t, "problem.go"), func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "status" {
			return !ok
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if clause, ok := n.(*ast.CaseClause); ok {
				for _, e := range clause.List {
					require.Contains(t, declared, nameOf(e))
					codes = append(codes, declared[nameOf(e)])
				}
			}
			return true
		})
		return false
	})
	return codes
}

// nameOf is the last word of x or sessions.x.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func parsed(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	return file
}
