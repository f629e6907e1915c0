// Package dashboards proves the dashboards and the alerts without Grafana: a real
// Prometheus scrapes real gateways and a worker while journeys, refusals and an
// outage are played to them, and is then asked every query of every panel and
// of every alert.
package dashboards
