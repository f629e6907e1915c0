// Package pages knows the web pages: /t for who waits for a trainer, /drive for a
// trainer without an app, /ops for the staff. It gives their files, with what the
// gateway's settings add to them, and the headers that keep them to themselves. It
// does no I/O and no HTTP: gateway/api writes the answers.
package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Options are the pages' settings. All URLs and origins have been checked.
type Options struct {
	// RadiusM is the radius of the fence that the pages draw around a home, metres.
	RadiusM float64
	// MapStyle is the URL of a MapLibre style. Empty: no map, but the plain ground.
	MapStyle string
	// Issuer is the OpenID Connect issuer at which people sign in, ClientID the pages'
	// name there. Empty: nobody can sign in.
	Issuer, ClientID, Scope string
	// Painted is a URL to which the page posts when it has painted a fix. For the demo;
	// empty: none.
	Painted string
	// Connect are the origins, besides those of MapStyle and Issuer, that the pages may
	// fetch from.
	Connect []string
	// FrameAncestors are the origins whose pages may show these in a frame. Empty: none.
	FrameAncestors []string
}

// File is one file as it is served.
type File struct {
	Type string // Content-Type
	Body []byte
	// Encoded is Body in the codings br and gzip, where they were made ahead.
	Encoded map[string][]byte
	// Immutable says that the file's name changes with its content.
	Immutable bool
}

// Pages are the files by the path that they are served at. Safe for concurrent use.
type Pages struct {
	files   map[string]File
	headers [][2]string
	built   bool
}

// Page paths.
const (
	Student = "/t"
	Drive   = "/drive"
	Ops     = "/ops"
)

// New reads the pages: those that were built or else the plain ones. files is
// web.Files.
func New(files fs.FS, o Options) (*Pages, error) {
	p := &Pages{files: map[string]File{}, headers: o.headers()}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	_, err = fs.Stat(files, "dist/t.html")
	p.built = err == nil
	folder := "plain"
	if p.built {
		folder = "dist"
	}
	err = fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return p.add(files, name, strings.TrimPrefix(name, folder+"/"), config)
	})
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	if _, ok := p.files[Student]; !ok {
		return nil, errors.New("pages: there is no t.html")
	}
	return p, nil
}

// configMark stands in a page's head where its settings go.
const configMark = "<!--config-->"

// add reads one file. Pages are served without their ending, all else below /assets
// but the service worker, whose path is its reach.
func (p *Pages) add(files fs.FS, name, short, config string) error {
	kind, known := types[path.Ext(short)]
	if !known {
		return nil // a coding of another file, or none of the pages
	}
	body, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	f := File{Type: kind, Body: body, Encoded: map[string][]byte{}}
	at := "/" + short
	switch {
	case path.Ext(short) == ".html":
		at = strings.TrimSuffix(at, ".html")
		f.Body = []byte(strings.Replace(string(body), configMark, config, 1))
	case !p.built:
		at = "/assets/" + short
	default:
		f.Immutable = strings.HasPrefix(short, "assets/")
		for coding, end := range map[string]string{"br": ".br", "gzip": ".gz"} {
			if f.Encoded[coding], err = fs.ReadFile(files, name+end); err != nil {
				delete(f.Encoded, coding)
			}
		}
	}
	p.files[at] = f
	return nil
}

var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8", ".txt": "text/plain; charset=utf-8",
}

// config is the meta element from which a page reads its settings. None of them is a
// secret.
func (o Options) config() (string, error) {
	text, err := json.Marshal(struct {
		RadiusM  float64 `json:"radiusMeters"`
		MapStyle string  `json:"mapStyle,omitempty"`
		Issuer   string  `json:"issuer,omitempty"`
		ClientID string  `json:"clientId,omitempty"`
		Scope    string  `json:"scope,omitempty"`
		Painted  string  `json:"painted,omitempty"`
	}{o.RadiusM, o.MapStyle, o.Issuer, o.ClientID, o.Scope, o.Painted})
	if err != nil {
		return "", fmt.Errorf("pages: settings: %w", err)
	}
	return `<meta name="doorstep" content="` + html.EscapeString(string(text)) + `">`, nil
}

// headers let a page run its own files only, and talk to this gateway, the map's
// servers and the issuer only.
func (o Options) headers() [][2]string {
	from := slices.Clone(o.Connect)
	for _, text := range []string{o.MapStyle, o.Issuer, o.Painted} {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			from = append(from, u.Scheme+"://"+u.Host)
		}
	}
	slices.Sort(from)
	others := strings.Join(append([]string{""}, slices.Compact(from)...), " ")
	ancestors := "'none'"
	if len(o.FrameAncestors) > 0 {
		ancestors = strings.Join(o.FrameAncestors, " ")
	}
	list := [][2]string{
		{"Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; " +
			"img-src 'self' data: blob:" + others + "; connect-src 'self'" + others + "; base-uri 'none'; form-action 'none'; frame-ancestors " + ancestors},
		{"Permissions-Policy", "geolocation=(self), screen-wake-lock=(self), camera=(), microphone=()"},
		{"Referrer-Policy", "no-referrer"},
		{"X-Content-Type-Options", "nosniff"},
	}
	if len(o.FrameAncestors) == 0 {
		list = append(list, [2]string{"X-Frame-Options", "DENY"})
	}
	return list
}

// File is the file at a path.
func (p *Pages) File(at string) (File, bool) {
	f, ok := p.files[at]
	return f, ok
}

// Headers are those of every file.
func (p *Pages) Headers() [][2]string { return p.headers }

// Built reports whether these are the built pages: with a map, and with /drive and
// /ops.
func (p *Pages) Built() bool { return p.built }
