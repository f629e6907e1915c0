// Package deploy holds what a deployment starts from: the AWS stacks, manifests for
// Kubernetes, a systemd unit, the live store's users, and a compose file with all that
// watches Doorstep. Its tests read these files; nothing imports it.
package deploy
