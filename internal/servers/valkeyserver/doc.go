// Package valkeyserver starts a private, throw-away Valkey or Redis: on a unix socket
// in a fresh temporary folder, without persistence, gone with the process that
// started it. The demo uses it when a server is on the PATH, and the tests do
// (see spawntest). A start takes 7 to 20 ms and the server 14 MB.
package valkeyserver
