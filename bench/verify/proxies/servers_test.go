package proxies

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/internal/servers/process"
)

// proxy is a server in front of a gateway: a program, and its configuration with
// the address to listen on, the gateway's address and a folder of its own.
type proxy struct {
	name, program string
	arguments     func(configuration string) []string
	configuration string // %[1]s: listen on, %[2]s: the gateway, %[3]s: the folder
}

var all = []proxy{
	{
		"nginx", "nginx", func(file string) []string { return []string{"-c", file, "-e", "stderr"} },
		`daemon off;
master_process off;
pid %[3]s/pid;
events {}
http {
  access_log off;
  client_body_temp_path %[3]s/body;
  proxy_temp_path %[3]s/proxy;
  fastcgi_temp_path %[3]s/fastcgi;
  uwsgi_temp_path %[3]s/uwsgi;
  scgi_temp_path %[3]s/scgi;
  gzip on;
  gzip_min_length 1;
  gzip_types *;
  gzip_proxied any;
  gzip_vary on;
  upstream gateway { server %[2]s; keepalive 16; }
  server {
    listen %[1]s;
    location / {
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
}
`,
	},
	{
		"apache", "apache2", func(file string) []string { return []string{"-X", "-f", file} },
		`ServerRoot /usr/lib/apache2
ServerName localhost
DefaultRuntimeDir %[3]s
PidFile %[3]s/pid
ErrorLog %[3]s/error.log
Listen %[1]s
User www-data
Group www-data
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule filter_module modules/mod_filter.so
LoadModule deflate_module modules/mod_deflate.so
LoadModule brotli_module modules/mod_brotli.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
SetOutputFilter BROTLI_COMPRESS;DEFLATE
ProxyPass / http://%[2]s/
`,
	},
	{
		"haproxy", "haproxy", func(file string) []string { return []string{"-db", "-f", file} },
		`global
  maxconn 1000
defaults
  mode http
  option forwardfor
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend public
  bind %[1]s
  compression algo gzip
  compression type application/json
  default_backend gateways
backend gateways
  http-reuse always
  server gateway %[2]s
`,
	},
}

// start starts the proxy in front of the gateway at addr, and returns its URL. It
// ends with the test.
func (p proxy) start(t *testing.T, addr string) string {
	t.Helper()
	program := find(t, p.program)
	listen, err := process.FreeAddr()
	require.NoError(t, err)
	dir := folder(t, p.name)
	file := filepath.Join(dir, "configuration")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, p.configuration, listen, addr, dir), 0o600))
	cmd := exec.Command(program, p.arguments(file)...)
	cmd.Stderr = t.Output()
	run(t, cmd)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "%s does not listen: %s", p.name, errorLog(dir))
	return "http://" + listen
}

// find returns the path of a program. Debian keeps servers off a user's PATH. A
// program that is not there fails the test; .ci/install installs it.
func find(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Fatalf("no %s on the PATH or in /usr/sbin: run .ci/install", name)
	return ""
}

// folder is a temporary folder that other users may enter: Apache gives up root.
func folder(t *testing.T, name string) string {
	t.Helper()
	dir, err := process.NewDir(os.TempDir(), "doorstep-"+name+"-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Remove()) })
	require.NoError(t, os.Chmod(dir.Path(), 0o755))
	return dir.Path()
}

// run runs a program until the end of the test, and its children with it.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	p, err := process.Start(cmd)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = syscall.Kill(-p.OS().Pid, syscall.SIGKILL) // its group, which process.Start made
		require.NoError(t, p.Kill())
	})
}

func errorLog(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
	return string(text)
}
