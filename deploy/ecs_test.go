package deploy

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"doorstep/gateway/api"
	"doorstep/gateway/httpserver"
)

const (
	stack   = "ecs/doorstep.yaml"
	network = "ecs/network.yaml"
)

// at follows a path of names and indices into a decoded document; nil where it ends.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			if list, ok := v.([]any); ok && step < len(list) {
				v = list[step]
			} else {
				return nil
			}
		}
	}
	return v
}

// template is a stack's template by section; CloudFormation's functions are taken for
// their arguments.
func template(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotRegexp(t, `(?m)[:-] [&*]\w+( |$)`, string(text), "CloudFormation knows no anchors")
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &doc))
	untagged(&doc)
	var all map[string]map[string]any
	doc.Content[0].Content = doc.Content[0].Content[4:] // the version and the description are texts
	require.NoError(t, doc.Decode(&all))
	return all
}

func untagged(n *yaml.Node) {
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		n.Tag = ""
	}
	for _, inner := range n.Content {
		untagged(inner)
	}
}

// environment are the variables in lists of names and values; of a secret the value is
// empty.
func environment(lists ...any) map[string]string {
	found := map[string]string{}
	for _, list := range lists {
		pairs, _ := list.([]any)
		for _, pair := range pairs {
			for _, key := range [][2]string{{"Name", "Value"}, {"name", "value"}} { // ECS, Kubernetes
				if name, ok := at(pair, key[0]).(string); ok {
					found[name], _ = at(pair, key[1]).(string)
				}
			}
		}
	}
	return found
}

// drains checks that a process has the time it needs between SIGTERM and the kill, and
// that its settings are some.
func drains(t *testing.T, environment map[string]string, kill time.Duration) {
	t.Helper()
	settings := declared(t)
	for name := range environment {
		if strings.HasPrefix(name, "DOORSTEP_") {
			assert.Contains(t, settings, strings.TrimSuffix(name, "_FILE"), "no such setting")
		}
	}
	timeout, err := time.ParseDuration(environment["DOORSTEP_DRAIN_TIMEOUT"])
	require.NoError(t, err)
	assert.Greater(t, kill, timeout, "it is killed when it has drained")
	if delay := environment["DOORSTEP_DRAIN_DELAY"]; delay != "" {
		d, err := time.ParseDuration(delay)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, d, 10*time.Second, "two checks of 5 s")
		assert.Greater(t, timeout, d, "and time to end what is in flight")
	}
}

func number(t *testing.T, v any) int {
	t.Helper()
	if n, ok := v.(int); ok {
		return n
	}
	text, _ := v.(string)
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func seconds(t *testing.T, v any) time.Duration {
	t.Helper()
	return time.Duration(number(t, v)) * time.Second
}

// What one part of the stack relies on another for.
func TestECS(t *testing.T) {
	t.Parallel()
	all := template(t, stack)
	r, parameters := all["Resources"], all["Parameters"]
	task := func(name string) any { return at(r, name, "Properties", "ContainerDefinitions", 0) }
	connections := 0
	for name, health := range map[string][]any{"Gateway": {"CMD", "gateway", "health"}, "Worker": {"CMD", "gateway", "health", "--worker"}} {
		c := task(name + "Task")
		env := environment(at(c, "Environment"), at(c, "Secrets"))
		drains(t, env, seconds(t, at(c, "StopTimeout")))
		assert.Equal(t, health, at(c, "HealthCheck", "Command"), name)
		assert.Equal(t, true, at(c, "ReadonlyRootFilesystem"), name)
		assert.Equal(t, "true", env["DOORSTEP_DATABASE_IAM"], name)
		most := at(r, name+"Scaling", "Properties", "MaxCapacity")
		if parameter, ok := most.(string); ok {
			most = at(parameters, parameter, "MaxValue")
		}
		service := at(r, name+"s", "Properties", "DeploymentConfiguration")
		assert.Equal(t, 100, at(service, "MinimumHealthyPercent"), name)
		assert.Equal(t, []any{true, true}, []any{at(service, "DeploymentCircuitBreaker", "Enable"), at(service, "DeploymentCircuitBreaker", "Rollback")})
		connections += number(t, most) * number(t, at(service, "MaximumPercent")) / 100 * number(t, env["DOORSTEP_DATABASE_MAX_CONNS"])
	}
	assert.Less(t, connections+20, number(t, at(r, "DatabaseParameters", "Properties", "Parameters", "max_connections")), "all tasks twice, and people")

	for name, service := range map[string]string{"TooFewGateways": "Gateways.Name", "TooFewWorkers": "Workers.Name"} {
		alarm := at(r, name, "Properties")
		assert.Equal(t, []any{"RunningTaskCount", service, 2, "LessThanThreshold"},
			[]any{at(alarm, "MetricName"), at(alarm, "Dimensions", 1, "Value"), at(alarm, "Threshold"), at(alarm, "ComparisonOperator")})
	}
	assert.Equal(t, 2, at(parameters, "GatewayTasks", "MinValue"))

	assert.Equal(t, false, at(r, "Database", "Properties", "PubliclyAccessible"))

	gateway := task("GatewayTask")
	assert.Equal(t, number(t, at(r, "GatewayTask", "Properties", "Memory")), at(gateway, "Memory"), "the limit that the process fits itself to")
	env := environment(at(gateway, "Environment"))
	assert.Equal(t, "false", env["DOORSTEP_OTP_IN_RESPONSE"])
	assert.GreaterOrEqual(t, number(t, at(gateway, "Ulimits", 0, "SoftLimit")), httpserver.DefaultMaxConns)
	assert.NotContains(t, env["DOORSTEP_DATABASE_URL"]+env["DOORSTEP_VALKEY_URL"], ":@", "no password")

	attributes := map[string]string{}
	for _, of := range []any{at(r, "Targets", "Properties", "TargetGroupAttributes"), at(r, "Balancer", "Properties", "LoadBalancerAttributes")} {
		for _, a := range of.([]any) {
			attributes[at(a, "Key").(string)], _ = at(a, "Value").(string)
		}
	}
	assert.Greater(t, seconds(t, attributes["deregistration_delay.timeout_seconds"]), api.DefaultMaxWait, "a poll ends by itself")
	idle := seconds(t, attributes["idle_timeout.timeout_seconds"])
	assert.True(t, api.DefaultMaxWait < idle && idle < httpserver.DefaultIdleTimeout, "the load balancer closes first, and after a poll")
	assert.Equal(t, "false", attributes["stickiness.enabled"])
	assert.Equal(t, "/readyz", at(r, "Targets", "Properties", "HealthCheckPath"))

	page, err := os.ReadFile("valkey/README.md")
	require.NoError(t, err)
	access, _ := at(r, "CacheUser", "Properties", "AccessString").(string)
	assert.Contains(t, string(page), "    "+access+"\n", "deploy/valkey/README.md is tested")
	assert.Equal(t, []any{0, "-1"}, []any{at(r, "Cache", "Properties", "SnapshotRetentionLimit"), at(r, "CacheParameters", "Properties", "Properties", "slowlog-log-slower-than")},
		"nothing of places on a disk or in a log")
}

// The page names every value that can be decided.
func TestECS_page(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/deploy-ecs.md")
	require.NoError(t, err)
	for _, path := range []string{stack, network, "aws/doorstep.yaml"} {
		for name := range template(t, path)["Parameters"] {
			assert.Contains(t, string(page), "`"+name+"`")
		}
	}
}
