package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"net/url"

	"rsc.io/qr"

	"doorstep/sessions"
)

// setup is what a stock app needs to report as a device.
type setup struct {
	url    string
	fields []setupField
	link   string // configures the app when it is opened on the phone, or scanned; empty: the app knows none
}

// setupField is one field of an app's settings, by its name on the screen, and what to
// type there.
type setupField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// withheld stands where the secret would.
const withheld = "the secret of this device, as it was shown once"

// setupOf is the set-up of a device. Without a secret the link leaves that setting as it
// is. The names of the fields are those of docs/phones.md.
func setupOf(d sessions.Device, public, secret string) setup {
	s := setup{url: public + ingestPath + string(d.Format)}
	shown := secret
	if secret == "" {
		shown = withheld
	}
	switch d.Format {
	case sessions.OwnTracks:
		s.fields = []setupField{
			{"Mode", "HTTP"},
			{"URL", s.url},
			{"Authentication (iOS)", "on"},
			{"Username (iOS: UserID)", string(d.ID)},
			{"Password", shown},
			{"Monitoring", "Move"},
			{"Remote commands and remote configuration", "on"},
		}
		s.link = ownTracksLink(d, s.url, secret)
	case sessions.OsmAnd:
		s.fields = []setupField{
			{"Device identifier", shown},
			{"Server URL", s.url},
			{"Location accuracy", "Highest"},
			{"Interval (seconds)", "5"},
			{"Distance (meters)", "0"},
			{"Offline buffering", "on"},
			{"Stop detection", "off"},
		}
		s.link = linkWith("org.traccar.client://config", secret, "id", url.Values{
			"url": {s.url}, "accuracy": {"highest"}, "interval": {"5"}, "distance": {"0"}, "buffer": {"true"}, "stop_detection": {"false"},
		})
	case sessions.Transistorsoft:
		s.fields = []setupField{
			{"url", s.url},
			{"method", "POST"},
			{"authorization.strategy", "JWT"},
			{"authorization.accessToken", shown},
			{"batchSync", "true"},
			{"autoSync", "true"},
		}
	case sessions.Overland:
		s.fields = []setupField{
			{"Receiver Endpoint URL", s.url}, {"Access Token", shown}, {"Device ID", string(d.ID)}, {"Send Interval", "5s"}, {"Locations per Batch", "50"},
		}
		s.link = linkWith("overland://setup", secret, "token", url.Values{"url": {s.url}, "device_id": {string(d.ID)}})
	}
	return s
}

// ownTracksLink is a configuration in the link itself. Mode 3 is HTTP, monitoring 2 is
// the mode "move".
func ownTracksLink(d sessions.Device, to, secret string) string {
	config := fmt.Appendf(nil, `{"_type":"configuration","mode":3,"url":%q,"auth":true,"username":%q,"deviceId":"phone",`+
		`"monitoring":2,"moveModeLocatorInterval":5,"locatorInterval":5,"cmd":true,"remoteConfiguration":true`, to, d.ID)
	if secret != "" {
		config = fmt.Appendf(config, `,"password":%q`, secret)
	}
	return "owntracks:///config?inline=" + url.QueryEscape(base64.StdEncoding.EncodeToString(append(config, '}')))
}

func linkWith(to, secret, name string, values url.Values) string {
	if secret != "" {
		values.Set(name, secret)
	}
	return to + "?" + values.Encode()
}

// pictureOf is the QR code of a link: a PNG as a data URL.
func pictureOf(link string) string {
	code, err := qr.Encode(link, qr.M)
	if err != nil {
		// Only a text of over 2,331 bytes has no code, and public URLs are shorter.
		return ""
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(code.PNG())
}

const setupStyle = `body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}` +
	`th{text-align:left;padding-right:1rem;vertical-align:top}td{font-family:monospace;overflow-wrap:anywhere}img{width:18rem;image-rendering:pixelated}`

// setupPolicy allows the page its own style and pictures in data URLs, and nothing else:
// no script, no frame, no request.
var setupPolicy = "default-src 'none'; img-src data:; style-src 'sha256-" + styleHash() + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func styleHash() string {
	sum := sha256.Sum256([]byte(setupStyle))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// setupPage is written by hand: html/template would make the binary a third larger
// (docs/adr/0007-let-the-linker-leave-out-what-nothing-calls.md).
func setupPage(d sessions.Device, s setup) []byte {
	var b bytes.Buffer
	text := html.EscapeString
	name := d.Name
	if name == "" {
		name = string(d.ID)
	}
	fmt.Fprintf(&b, `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">`+
		`<title>Set up a phone</title><style>%s</style><h1>%s</h1><p>App: %s. Type this into its settings:</p><table>`,
		setupStyle, text(name), text(string(d.Format)))
	for _, f := range s.fields {
		fmt.Fprintf(&b, "<tr><th>%s<td>%s", text(f.Name), text(f.Value))
	}
	b.WriteString("</table>")
	if s.link != "" {
		fmt.Fprintf(&b, `<p>Or scan this with the phone, and type the secret alone.</p><p><img alt="QR code" src="%s"></p><p><a href="%s">Open this link on the phone</a></p>`,
			pictureOf(s.link), text(s.link))
	}
	return b.Bytes()
}
