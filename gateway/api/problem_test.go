package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// The list of codes is closed: what sessions names, openapi.yaml lists, and
// status maps without falling through to its default.
func TestStatus_is_total_over_the_closed_list(t *testing.T) {
	t.Parallel()
	named := declaredCodes(t)
	require.NotEmpty(t, named)
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	require.NoError(t, err)
	var listed []string
	for _, v := range doc.Components.Schemas["Code"].Value.Enum {
		listed = append(listed, v.(string))
	}
	assert.ElementsMatch(t, named, listed, "the constants of sessions/errors.go and Code's enum in openapi.yaml")
	var said []string
	for _, c := range sessions.Codes() {
		said = append(said, string(c))
	}
	assert.ElementsMatch(t, named, said, "the constants of sessions/errors.go and what Codes answers")
	assert.ElementsMatch(t, named, mappedCodes(t), "the constants of sessions/errors.go and the cases of status()")
	for _, code := range named {
		s := status(sessions.Code(code))
		assert.Equal(t, code == string(sessions.Internal), s == 500, code)
	}
}

// declaredCodes reads the constants of type Code from sessions/errors.go.
func declaredCodes(t *testing.T) []string {
	t.Helper()
	var codes []string
	ast.Inspect(parsed(t, "../../sessions/errors.go"), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			for _, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				require.NoError(t, err)
				codes = append(codes, text)
			}
		}
		return true
	})
	return codes
}

// mappedCodes reads the cases of status's switch.
func mappedCodes(t *testing.T) []string {
	t.Helper()
	values := constantValues(t)
	var codes []string
	ast.Inspect(parsed(t, "problem.go"), func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "status" {
			return !ok
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if clause, ok := n.(*ast.CaseClause); ok {
				for _, e := range clause.List {
					name := e.(*ast.SelectorExpr).Sel.Name
					require.Contains(t, values, name)
					codes = append(codes, values[name])
				}
			}
			return true
		})
		return false
	})
	slices.Sort(codes)
	return codes
}

func constantValues(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	ast.Inspect(parsed(t, "../../sessions/errors.go"), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				values[spec.Names[0].Name], _ = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	return values
}

func parsed(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	return file
}
