// Package proxies checks the live reads through the proxies that stand in front
// of gateways: nginx, Apache and HAProxy, each with its compression on. It has
// only tests.
package proxies
