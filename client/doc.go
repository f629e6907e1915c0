// Package client calls the HTTP API of a Doorstep gateway (gateway/api/openapi.yaml).
//
// Client has one typed method for each call. Reporter is the sending half of a
// trainer's phone: it queues fixes, repeats what was lost, sends what waited in
// one batch and keeps the pace that the gateway asks for. Follower is a student's
// app: it reads the live location by long poll until the journey is over.
//
// The package imports only the standard library.
//
// Units: positions are degrees of WGS 84, distances and accuracies metres,
// speeds km/h, headings degrees clockwise from north in [0, 360). A field of a
// pointer type is nil where the value is not known.
package client
