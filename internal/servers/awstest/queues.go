package awstest

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"time"
)

// queue is a standard queue. The server's lock guards its fields.
type queue struct {
	url         string
	visibility  time.Duration
	maxReceives int    // 0: no redrive
	dead        *queue // of the redrive
	messages    []*Message
	gone        int                 // how many of them are deleted
	inHand      map[string]*Message // received messages by their last receipt
	arrived     chan struct{}       // closed and replaced at each message
}

// Message is a message as it lies in a queue.
type Message struct {
	ID, Body   string
	Attributes map[string]Attribute
	Receives   int
	Trace      string // the trace header of the event that it holds
	// VisibleAt is when it can be received again.
	VisibleAt time.Time
	Sent      time.Time
	receipt   string
	gone      bool
}

// Attribute is a message attribute of type String.
type Attribute struct{ DataType, StringValue string }

// Queue makes a queue and its dead-letter queue, name + "-dlq", and returns the queue's URL.
// A message that was received maxReceives times moves to the dead-letter queue.
func (s *Server) Queue(name string, visibility time.Duration, maxReceives int) (url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead := s.queue(name+"-dlq", visibility)
	q := s.queue(name, visibility)
	q.maxReceives, q.dead = maxReceives, dead
	return q.url
}

func (s *Server) queue(name string, visibility time.Duration) *queue {
	if s.queues[name] == nil {
		s.queues[name] = &queue{
			url: s.URL() + "/" + account + "/" + name, visibility: visibility,
			inHand: map[string]*Message{}, arrived: make(chan struct{}),
		}
	}
	return s.queues[name]
}

// Messages lists the messages of a queue, received ones included.
func (s *Server) Messages(name string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Message
	for _, m := range s.queues[name].messages {
		if !m.gone {
			list = append(list, *m)
		}
	}
	return list
}

// Waiting is the number of messages of a queue, received ones included.
func (s *Server) Waiting(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queues[name].messages) - s.queues[name].gone
}

// Send puts a message with this body into a queue.
func (s *Server) Send(name, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[name].send(body, nil)
}

func (q *queue) send(body string, attributes map[string]Attribute) *Message {
	m := &Message{ID: rand.Text(), Body: body, Attributes: attributes, VisibleAt: now(), Sent: now()}
	q.messages = append(q.messages, m)
	close(q.arrived)
	q.arrived = make(chan struct{})
	return m
}

// find returns the queue of a URL.
func (s *Server) find(url string) (*queue, error) {
	q := s.queues[path.Base(url)]
	if q == nil || q.url != url {
		return nil, refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	}
	return q, nil
}

type createQueue struct {
	QueueName  string
	Attributes map[string]string
}

func (s *Server) createQueue(in createQueue) (any, error) {
	seconds, err := strconv.Atoi(in.Attributes["VisibilityTimeout"])
	if err != nil {
		seconds = 30
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]string{"QueueUrl": s.queue(in.QueueName, time.Duration(seconds)*time.Second).url}, nil
}

func (s *Server) getQueueURL(in createQueue) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[in.QueueName]
	if q == nil {
		return nil, refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	}
	return map[string]string{"QueueUrl": q.url}, nil
}

type sendMessage struct {
	QueueUrl, MessageBody string
	MessageAttributes     map[string]Attribute
}

func (s *Server) sendMessage(in sendMessage) (any, error) {
	if len(in.MessageBody) == 0 || len(in.MessageBody) > 1<<20 {
		return nil, refuse("InvalidParameterValue", "a message of %d bytes", len(in.MessageBody))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	return map[string]string{"MessageId": q.send(in.MessageBody, in.MessageAttributes).ID, "MD5OfMessageBody": sum(in.MessageBody)}, nil
}

type receive struct {
	QueueUrl            string
	MaxNumberOfMessages int
	WaitTimeSeconds     int
	VisibilityTimeout   *int
}

// receiveMessage is a long poll: it answers as soon as there is a message. Ten times a
// second it looks for messages whose visibility time-out has ended.
func (s *Server) receiveMessage(ctx context.Context, in receive) (any, error) {
	if in.MaxNumberOfMessages < 0 || in.MaxNumberOfMessages > 10 || in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > 20 {
		return nil, refuse("InvalidParameterValue", "MaxNumberOfMessages %d, WaitTimeSeconds %d", in.MaxNumberOfMessages, in.WaitTimeSeconds)
	}
	deadline := time.After(time.Duration(in.WaitTimeSeconds) * time.Second)
	for {
		s.mu.Lock()
		q, err := s.find(in.QueueUrl)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		messages, arrived := q.receive(max(1, in.MaxNumberOfMessages), in.VisibilityTimeout), q.arrived
		s.mu.Unlock()
		if len(messages) > 0 {
			return map[string]any{"Messages": messages}, nil
		}
		select {
		case <-arrived:
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			return map[string]any{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type received struct {
	MessageId, ReceiptHandle, Body, MD5OfBody string
	Attributes                                map[string]string
	MessageAttributes                         map[string]Attribute `json:",omitempty"`
}

func (q *queue) receive(limit int, visibility *int) []received {
	hidden := q.visibility
	if visibility != nil {
		hidden = time.Duration(*visibility) * time.Second
	}
	var list []received
	for _, m := range q.messages {
		switch {
		case m.gone || m.VisibleAt.After(now()):
			continue
		case q.maxReceives > 0 && m.Receives >= q.maxReceives:
			dead := q.dead.send(m.Body, m.Attributes)
			dead.Receives, dead.Trace = m.Receives, m.Trace
			q.remove(m)
			continue
		}
		m.Receives++
		delete(q.inHand, m.receipt)
		m.VisibleAt, m.receipt = now().Add(hidden), rand.Text()
		q.inHand[m.receipt] = m
		about := map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(m.Receives), "SentTimestamp": strconv.FormatInt(m.Sent.UnixMilli(), 10),
		}
		if m.Trace != "" {
			about["AWSTraceHeader"] = m.Trace
		}
		list = append(list, received{m.ID, m.receipt, m.Body, sum(m.Body), about, m.Attributes})
		if len(list) == limit {
			break
		}
	}
	q.compact()
	return list
}

func (q *queue) remove(m *Message) {
	delete(q.inHand, m.receipt)
	m.gone = true
	q.gone++
}

// compact removes deleted messages once they are half of all: a queue may hold tens of
// thousands.
func (q *queue) compact() {
	if q.gone > 64 && q.gone > len(q.messages)/2 {
		q.messages = slices.DeleteFunc(q.messages, func(m *Message) bool { return m.gone })
		q.gone = 0
	}
}

type withReceipt struct {
	QueueUrl, ReceiptHandle string
	VisibilityTimeout       int
}

// deleteMessage needs the message's last receipt. An older one deletes nothing and is no
// error, as with SQS.
func (s *Server) deleteMessage(in withReceipt) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if m := q.inHand[in.ReceiptHandle]; m != nil {
		q.remove(m)
	}
	return struct{}{}, nil
}

func (s *Server) changeVisibility(in withReceipt) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueUrl)
	if err != nil {
		return nil, err
	}
	if in.VisibilityTimeout < 0 || in.VisibilityTimeout > 43200 {
		return nil, refuse("InvalidParameterValue", "VisibilityTimeout %d", in.VisibilityTimeout)
	}
	if m := q.inHand[in.ReceiptHandle]; m != nil && m.VisibleAt.After(now()) {
		m.VisibleAt = now().Add(time.Duration(in.VisibilityTimeout) * time.Second)
		return struct{}{}, nil
	}
	return nil, refuse("com.amazonaws.sqs#MessageNotInflight", "The message referred to isn't in flight.")
}

func sum(body string) string {
	hash := md5.Sum([]byte(body)) // SQS's own checksum
	return hex.EncodeToString(hash[:])
}

// Detail is the detail and the type of a message in EventBridge's envelope.
func (m Message) Detail() (detailType string, detail []byte) {
	var e struct {
		DetailType string          `json:"detail-type"`
		Detail     json.RawMessage `json:"detail"`
	}
	if json.Unmarshal([]byte(m.Body), &e) != nil {
		return "", nil
	}
	return e.DetailType, e.Detail
}
