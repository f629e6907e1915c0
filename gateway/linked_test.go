package main

import (
	"debug/elf"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The linker leaves out methods that nothing calls, a third of the binary and of
// an idle gateway's memory, unless something calls a method by a name that is
// made at run time, as text/template does: docs/adr/0007.
func TestProgram_has_no_methods_that_nothing_calls(t *testing.T) {
	t.Parallel()
	file, err := elf.Open(program(t))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	symbols, err := file.Symbols()
	require.NoError(t, err)
	var has []string
	for _, s := range symbols {
		switch s.Name {
		case "github.com/aws/aws-sdk-go-v2/service/eventbridge.(*Client).PutEvents", // proves that names are looked for as they are
			"github.com/aws/aws-sdk-go-v2/service/eventbridge.(*Client).CreateArchive":
			has = append(has, s.Name)
		}
	}
	assert.Equal(t, []string{"github.com/aws/aws-sdk-go-v2/service/eventbridge.(*Client).PutEvents"}, has,
		"go build -ldflags=-dumpdep marks what is to blame with ReflectMethod")
}
