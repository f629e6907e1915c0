// Package web holds the files of the pages. gateway/pages serves them.
package web

import "embed"

// Files has two folders. dist is what `make web` has built of the pages, and is
// empty where it was not run. plain is the student's page without a map and without a
// build: modules that a browser runs as they are.
//
//go:embed plain all:dist
var Files embed.FS
