package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/settings.md instead of comparing it")

const settingsPage = "../docs/settings.md"

// docs/settings.md is what --help prints, as a page.
// `go test ./gateway -run TestSettingsPage -update` writes it.
func TestSettingsPage(t *testing.T) {
	t.Parallel()
	page := pageOf(commands())
	if *update {
		require.NoError(t, os.WriteFile(settingsPage, []byte(page), 0o600))
	}
	have, err := os.ReadFile(settingsPage)
	require.NoError(t, err)
	assert.Equal(t, page, string(have), "run: go test ./gateway -run TestSettingsPage -update")
}

func pageOf(all []command) string {
	var b strings.Builder
	b.WriteString("# Settings\n\nThis page is generated from the flags: `go test ./gateway -run TestSettingsPage -update` writes it.\n\n" +
		"A flag and its `DOORSTEP_` variable set the same thing; the flag counts where both are given. A duration is a number with a unit: `250ms`, `5s`, `1h`. " +
		"A list has commas between its items. A file is given by its path. Where two variables are named, the one with `_FILE` names a file " +
		"that holds the value. A `DOORSTEP_` variable that no command knows is refused, because a typo would otherwise pass for the default.\n")
	for _, c := range all {
		s := settingsOf(c.runner)
		if !s.HasFlags() {
			continue
		}
		fmt.Fprintf(&b, "\n## gateway %s\n\n%s\n\n| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n", c.name, c.help)
		s.VisitAll(func(f *pflag.Flag) {
			tag, set := s.tags[f]
			if !set {
				return // the opposite of a switch
			}
			variable := ""
			if env := tag.Get("env"); env != "" {
				variable = "`" + env + "`"
				if _, secret := tag.Lookup("secret"); secret {
					variable += ", `" + env + inFile + "`"
				}
			}
			byDefault := ""
			if text := tag.Get("default"); text != "" {
				byDefault = "`" + text + "`"
			}
			help := tag.Get("help")
			if _, required := tag.Lookup("required"); required {
				help += " Required."
			}
			fmt.Fprintf(&b, "| %s | `--%s` | %s | %s |\n", variable, f.Name, byDefault, strings.ReplaceAll(help, "|", "\\|"))
		})
	}
	return b.String()
}
