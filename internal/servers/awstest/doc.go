// Package awstest is an AWS endpoint for tests: EventBridge's PutEvents, Secrets Manager's
// GetSecretValue and the part of SQS that Doorstep uses, over the real wire protocol on a loopback
// address, for the SDK's own client to talk to.
//
// It checks what AWS checks and emulators do not: the SigV4 signature of every request (by
// signing it again with the SDK's own signer), the JSON, and the limits. Rules carry events
// from a bus to queues in EventBridge's envelope. Queues have visibility time-outs, long
// polls and a redrive to dead-letter queues. A test can make it throttle, fail, stall, drop
// connections, refuse credentials, and take a batch in part.
//
// It does not have FIFO queues, event patterns other than source and detail-type, delivery
// delays, or a second region or account. AWS itself delivers some SQS messages twice and
// out of order; here only a visibility time-out or a repeated publish does that.
package awstest
