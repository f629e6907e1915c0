package metrics_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/requiredtest"
)

// promtool runs Prometheus's own checks. Without it they are skipped on a
// laptop and fail in CI.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		requiredtest.Missing(t, err)
	}
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	t.Run("are_rules", func(t *testing.T) {
		t.Parallel()
		promtool(t, "check", "rules", "alerts/doorstep.yml")
	})
	t.Run("fire_and_stay_silent", func(t *testing.T) {
		t.Parallel()
		promtool(t, "test", "rules", "alerts/doorstep_test.yml")
	})
}

// An alert nobody has seen fire, or that has seen nothing but fire, is a guess;
// one without a section in the runbook is noise.
func TestAlerts_each_has_two_tests_and_a_section(t *testing.T) {
	t.Parallel()
	alerts := names(t, "alerts/doorstep.yml", `(?m)^ +- alert: (\w+)$`)
	require.NotEmpty(t, alerts)
	assert.ElementsMatch(t, alerts, names(t, "alerts/doorstep_test.yml", `(?m)^  - name: "(\w+) fires"$`))
	assert.ElementsMatch(t, alerts, names(t, "alerts/doorstep_test.yml", `(?m)^  - name: "(\w+) stays silent: .+"$`))
	var links []string
	for _, alert := range alerts {
		links = append(links, strings.ToLower(alert))
	}
	assert.Equal(t, links, names(t, "alerts/doorstep.yml", `(?m)^ +runbook_url: docs/runbook\.md#(\w+)$`))

	runbook := text(t, "../docs/runbook.md")
	sections, procedures, found := strings.Cut(runbook, "\n## Procedures\n")
	require.True(t, found)
	assert.Equal(t, alerts, all(sections, `(?m)^### (.+)$`), "the runbook's sections, in the order of the alerts")
	for _, section := range strings.Split(sections, "\n### ")[1:] {
		for _, word := range []string{"**Means**", "**Users notice**", "**Look at**", "**Do**", "**Do not**"} {
			assert.Contains(t, strings.ReplaceAll(section, "\n", " "), word, section)
		}
	}
	anchors := all(procedures, `(?m)^### (.+)$`)
	for i, a := range anchors {
		anchors[i] = strings.ReplaceAll(strings.ToLower(a), " ", "-")
	}
	for _, link := range all(runbook, `\(#([a-z-]+)\)`) {
		assert.Contains(t, append(anchors, links...), link, "a link within the runbook")
	}
}

func names(t *testing.T, file, pattern string) []string {
	t.Helper()
	return all(text(t, file), pattern)
}

// all is the first group of every match.
func all(text, pattern string) []string {
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}
