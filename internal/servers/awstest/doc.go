// Package awstest is an AWS endpoint for tests: EventBridge's PutEvents and the
// part of SQS that Doorstep uses, over the real wire protocol on a loopback
// address, for the SDK's own client to talk to.
//
// It checks what AWS checks and emulators do not: the SigV4 signature of every
// request (by signing it again with the SDK's own signer), the JSON, and the
// limits. Rules carry events from a bus to queues in EventBridge's envelope;
// queues have visibility time-outs, long polls and a redrive to dead-letter
// queues. On command it throttles, fails, stalls, drops connections, refuses
// credentials, and takes a batch in part.
//
// What it does not do: FIFO queues, event patterns beyond source and
// detail-type, delivery delays, more than one region or account. AWS delivers
// some SQS messages twice and out of order by itself; here only a visibility
// time-out or a repeat of the publisher's makes that happen.
package awstest
