// Package docs_test checks that the documents and the code tell the same story.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = ".."

// tracked lists the repository's files with one of the endings, by their path
// from the root. A file that git does not know yet counts, unless it is ignored.
func tracked(t *testing.T, endings ...string) (files []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(string(out), "\x00") {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil && slices.Contains(endings, filepath.Ext(name)) {
			files = append(files, name)
		}
	}
	require.NotEmpty(t, files)
	return files
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(text)
}

// retired reads the table of docs/glossary.md whose first column is words that
// may not come back.
func retired(t *testing.T) (words []string) {
	t.Helper()
	_, table, found := strings.Cut(read(t, "docs/glossary.md"), "\n| Retired | Use |\n")
	require.True(t, found, "docs/glossary.md has no table of retired words")
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(line); m != nil {
			words = append(words, m[1])
		}
	}
	require.NotEmpty(t, words)
	return words
}

// A word that the glossary has retired stays away: from the code, the scripts
// and the pages, but for the glossary, the changelog and the decisions, which
// tell of the past.
func TestGlossary(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`\b(` + strings.Join(retired(t), "|") + `)\b`)
	linked := regexp.MustCompile(`\]\([^)]*\)`) // the name of a decision may hold such a word
	for _, name := range tracked(t, ".go", ".lua", ".md", ".yaml", ".yml", ".sql") {
		if name == "docs/glossary.md" || name == "docs/CHANGELOG.md" || strings.HasPrefix(name, "docs/adr/") || name == "docs/docs_test.go" {
			continue
		}
		for i, line := range strings.Split(read(t, name), "\n") {
			if found := word.FindString(linked.ReplaceAllString(line, "]")); found != "" {
				t.Errorf("%s:%d: %q is retired; docs/glossary.md has the word to use", name, i+1, found)
			}
		}
	}
}

var (
	named  = regexp.MustCompile(`\bdocs/[\w/.-]*\w\.(?:md|svg|png)\b`)
	adr    = regexp.MustCompile(`\bdocs/adr/(\d{4})\b`)
	link   = regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)]*)?\)`)
	abroad = regexp.MustCompile(`\.\./shared\b|\b[A-Z]{5,}\.(?:md|txt)\b`)
)

// Whoever is sent to a document finds it: a comment or a page names only what is
// in this repository.
func TestReferences(t *testing.T) {
	t.Parallel()
	decisions, err := filepath.Glob(filepath.Join(root, "docs/adr/*.md"))
	require.NoError(t, err)
	for _, name := range tracked(t, ".go", ".lua", ".md", ".yaml", ".yml", ".sql", ".sh", ".ts") {
		text := read(t, name)
		for _, to := range named.FindAllString(text, -1) {
			assert.FileExists(t, filepath.Join(root, to), "%s names it", name)
		}
		for _, m := range adr.FindAllStringSubmatch(text, -1) {
			assert.True(t, slices.ContainsFunc(decisions, func(path string) bool {
				return strings.HasPrefix(filepath.Base(path), m[1])
			}), "%s names docs/adr/%s", name, m[1])
		}
		if name != "docs/docs_test.go" {
			for _, to := range abroad.FindAllString(text, -1) {
				if to != "README.md" && to != "CHANGELOG.md" {
					t.Errorf("%s names %s, which is no document of this repository", name, to)
				}
			}
		}
		if filepath.Ext(name) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			_, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1]))
			assert.NoError(t, err, "%s links to %s", name, m[1])
		}
	}
}

// The README's two walks name every own file between the socket and the store, in
// order; each of them exists, and the README stays short enough to be read.
func TestReadme(t *testing.T) {
	t.Parallel()
	text := read(t, "README.md")
	assert.LessOrEqual(t, strings.Count(text, "\n"), 200, "what belongs to a task belongs to a page of docs/")
	for _, walk := range []string{"One update", "One long poll"} {
		_, after, found := strings.Cut(text, "### "+walk)
		require.True(t, found, "the README has no walk %q", walk)
		steps, _, _ := strings.Cut(after, "\n#")
		files := regexp.MustCompile(`\]\(([\w/.-]+\.(?:go|lua))\)`).FindAllStringSubmatch(steps, -1)
		assert.GreaterOrEqual(t, len(files), 6, walk)
		for _, m := range files {
			assert.FileExists(t, filepath.Join(root, m[1]), walk)
		}
	}
}
