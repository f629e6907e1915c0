package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// manifests are the documents of the files that the kustomization names.
func manifests(t *testing.T) map[string]any {
	t.Helper()
	var k struct{ Resources []string }
	read(t, "kubernetes/kustomization.yaml", &k)
	files, err := filepath.Glob("kubernetes/*.yaml")
	require.NoError(t, err)
	assert.Len(t, k.Resources, len(files)-1, "every file is part of it")
	found := map[string]any{}
	for _, file := range k.Resources {
		text, err := os.ReadFile(filepath.Join("kubernetes", file))
		require.NoError(t, err)
		for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var one map[string]any
			if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			name, _ := at(one, "metadata", "name").(string)
			kind, _ := one["kind"].(string)
			found[kind+"/"+name] = one
		}
	}
	return found
}

// What one manifest relies on another for, and what every pod must have.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	settings := map[string]string{}
	for name, value := range at(all["ConfigMap/doorstep"], "data").(map[string]any) {
		settings[name], _ = value.(string)
	}
	assert.Equal(t, "false", settings["DOORSTEP_OTP_IN_RESPONSE"])
	for _, name := range []string{"Deployment/doorstep-gateway", "Deployment/doorstep-worker", "Job/doorstep-migrate"} {
		pod := at(all[name], "spec", "template", "spec")
		c := at(pod, "containers", 0)
		assert.Equal(t, []any{false, false, true, "RuntimeDefault"}, []any{
			at(pod, "enableServiceLinks"), at(pod, "automountServiceAccountToken"), at(pod, "securityContext", "runAsNonRoot"),
			at(pod, "securityContext", "seccompProfile", "type"),
		}, name)
		assert.Equal(t, []any{true, false, "ALL"}, []any{
			at(c, "securityContext", "readOnlyRootFilesystem"), at(c, "securityContext", "allowPrivilegeEscalation"), at(c, "securityContext", "capabilities", "drop", 0),
		}, name)
		assert.NotNil(t, at(c, "resources", "limits", "memory"), name)
		for _, item := range at(pod, "volumes", 0, "secret", "items").([]any) {
			assert.Equal(t, name == "Job/doorstep-migrate", at(item, "key") == "owner-database-url", "only the migration is the owner: %s", name)
		}
		if kill := at(pod, "terminationGracePeriodSeconds"); kill != nil {
			drains(t, settings, seconds(t, kill))
			assert.Equal(t, at(all[name], "spec", "selector", "matchLabels"), at(all[name], "spec", "template", "metadata", "labels"), name)
		} else {
			drains(t, map[string]string{"DOORSTEP_DRAIN_TIMEOUT": "25s", at(c, "env", 0, "name").(string): ""}, 30*time.Second)
		}
	}
	gateway := at(all["Deployment/doorstep-gateway"], "spec", "template", "spec", "containers", 0)
	ready := at(gateway, "readinessProbe")
	assert.Equal(t, []any{"/readyz", "/healthz"}, []any{at(ready, "httpGet", "path"), at(gateway, "livenessProbe", "httpGet", "path")})
	delay, err := time.ParseDuration(settings["DOORSTEP_DRAIN_DELAY"])
	require.NoError(t, err)
	assert.GreaterOrEqual(t, delay, seconds(t, at(ready, "periodSeconds"))*time.Duration(number(t, at(ready, "failureThreshold"))), "it is out before it stops to listen")
	labels := at(all["Deployment/doorstep-gateway"], "spec", "selector", "matchLabels")
	for _, path := range [][]any{{"Service/doorstep-gateway", "spec", "selector"}, {"PodDisruptionBudget/doorstep-gateway", "spec", "selector", "matchLabels"}} {
		assert.Equal(t, labels, at(all, path...))
	}
	assert.Equal(t, 0, at(all["Deployment/doorstep-gateway"], "spec", "strategy", "rollingUpdate", "maxUnavailable"))
}
