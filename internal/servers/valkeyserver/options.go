package valkeyserver

import (
	"fmt"
	"os"
	"time"
)

// Options says what to start. The zero value is what the demo wants.
type Options struct {
	// Path is the server's program. Empty: what Find finds.
	Path string
	// TCP makes it listen on a free port of 127.0.0.1 too.
	TCP bool
	// Cluster starts a cluster node (and TCP, which the nodes need). It is
	// alone and owns no slot until the caller gives it some.
	Cluster bool
	// TLS makes the port speak TLS and nothing else.
	TLS *TLS
	// Args are further settings as the server's command line takes them, such
	// as "--maxmemory", "64mb". They come last, so they win.
	Args []string
	// ReadyIn bounds the start, from the fork to the first answered PING.
	// Zero: 10 s, five hundred times what an idle machine needs.
	ReadyIn time.Duration
	// TempDir is where the server's folder is made. Empty: os.TempDir(), or
	// /tmp where that is too long for a socket's path.
	TempDir string

	watches string // a sentinel's task, in the words of its file
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
	if o.ReadyIn < 0 {
		return o, fmt.Errorf("spawn: ReadyIn is negative: %v", o.ReadyIn)
	}
	if o.ReadyIn == 0 {
		o.ReadyIn = 10 * time.Second
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
		if len(o.TempDir)+len(dirPrefix)+len("/4294967295/"+socketName) > maxSocketPath {
			o.TempDir = "/tmp"
		}
	}
	o.TCP = o.TCP || o.Cluster || o.TLS != nil
	return o, nil
}
