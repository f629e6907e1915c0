package valkeyserver

// Options says what to start. The zero value is for the demo.
type Options struct {
	// Path is the server's program; empty: what Find finds.
	Path string
	// TCP makes it listen on a free port of 127.0.0.1, too.
	TCP bool
	// Cluster starts a cluster node, with TCP. It is alone and owns no slot until
	// the caller gives it some.
	Cluster bool
	// TLS makes the port speak TLS and nothing else.
	TLS *TLS
	// Args are further settings as the server's command line takes them, such
	// as "--maxmemory", "64mb". They come last, so they win.
	Args []string

	sentinel string // the monitor lines of a sentinel's file; empty: a server
}

// TLS names the server's PEM files: its certificate and key, and the authority
// that signed them. Clients need no certificate.
type TLS struct{ Cert, Key, CA string }

func (o Options) withDefaults() (Options, error) {
	if o.Path == "" {
		path, _, ok := Find()
		if !ok {
			return o, ErrNotFound
		}
		o.Path = path
	}
	o.TCP = o.TCP || o.Cluster || o.TLS != nil
	return o, nil
}
