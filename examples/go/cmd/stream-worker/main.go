// Stream-worker works on queue `hello` over one stream, several operations at once, until SIGTERM:
// stream-worker [-queue QUEUE] [-slots N] [-pause SECONDS] [SERVER].
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	longhaulpb "longhaul.dev/longhaul/v1"
)

const (
	steps = 5
	lease = 30 * time.Second
	// Leases outlive a stream by 3 s, which is enough for several reconnects.
	reconnectPause = 300 * time.Millisecond
	// A message with this many bytes is full: one more call, with a response of 1 MiB, stays below the limit of 3 MiB.
	fullBytes = 1 << 20
)

var (
	refused = []codes.Code{codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented}
	// A refusal with one of these codes means that the lease has ended.
	gone = []code.Code{code.Code_FAILED_PRECONDITION, code.Code_NOT_FOUND}
)

// Greet does the work of one operation, until the context ends.
func greet(ctx context.Context, lease *longhaulpb.Lease, pause time.Duration, report func(float64, string)) (*anypb.Any, error) {
	for step := 1; step <= steps; step++ {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		report(float64(step)/steps, fmt.Sprintf("step %d", step))
	}
	request := &structpb.Struct{}
	if err := lease.GetRequest().UnmarshalTo(request); err != nil {
		return nil, err
	}
	greeting := "hello " + request.GetFields()["name"].GetStringValue()
	content, err := structpb.NewStruct(map[string]any{"greeting": greeting})
	if err != nil {
		return nil, err
	}
	return anypb.New(content)
}

// Call is a call about an operation: one of the requests of the unary methods.
type call interface {
	proto.Message
	GetName() string
	GetLeaseToken() string
}

// Job is an operation that this worker holds.
type job struct {
	lease           *longhaulpb.Lease
	ctx             context.Context
	cancel          context.CancelFunc
	cancelRequested bool
	begun           bool
	// The final call, until the server has acknowledged it.
	last call
}

// Message is the calls of one message.
type message struct {
	sequence int64
	calls    []call
}

// Worker is the state that outlives a stream: held operations and unacknowledged calls.
type worker struct {
	queue string
	slots int32
	pause time.Duration
	// Holds a token once there is something to send.
	news chan struct{}

	mutex    sync.Mutex
	jobs     map[string]*job
	unsaid   []call
	stopping bool
	// Of the stream.
	sent      []message
	seen      int64
	heartbeat time.Duration
	draining  bool
}

// Run serves, one stream after another, until the context ends.
func (w *worker) run(ctx context.Context, workers longhaulpb.WorkersClient) error {
	context.AfterFunc(ctx, w.stop)
	for {
		err := w.serve(workers)
		w.mutex.Lock()
		stopping, idle := w.stopping, len(w.jobs) == 0
		w.mutex.Unlock()
		if slices.Contains(refused, grpcstatus.Code(err)) {
			return err
		}
		if err != nil {
			fmt.Println("broken:", err)
		}
		if stopping && (err == nil || idle) {
			return nil
		}
		time.Sleep(reconnectPause)
	}
}

// Stop stops all work; closing this side of the stream releases unfinished operations.
func (w *worker) stop() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.stopping = true
	for _, job := range w.jobs {
		job.cancel()
	}
	w.wake()
}

// Serve serves over one stream, to its end.
func (w *worker) serve(workers longhaulpb.WorkersClient) error {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := workers.ServeQueue(ctx)
	if err != nil {
		cancel()
		return err
	}
	w.mutex.Lock()
	w.sent, w.seen, w.heartbeat, w.draining = nil, 0, lease/3, false
	w.mutex.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.write(ctx, stream)
	}()
	// A server that sends nothing for this long is gone.
	silence := time.AfterFunc(lease, cancel)
	for err == nil {
		var response *longhaulpb.ServeQueueResponse
		if response, err = stream.Recv(); err == nil {
			silence.Reset(lease)
			w.takeIn(response)
		}
	}
	silence.Stop()
	cancel()
	<-written
	w.mutex.Lock()
	defer w.mutex.Unlock()
	// The server may have handled it. A repeat does no harm.
	later := w.unsaid
	w.unsaid = nil
	for _, message := range w.sent {
		w.unsaid = append(w.unsaid, message.calls...)
	}
	w.unsaid = append(w.unsaid, later...)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Write sends the waiting calls, or an empty message as a heartbeat.
func (w *worker) write(ctx context.Context, stream longhaulpb.Workers_ServeQueueClient) {
	w.mutex.Lock()
	hello := &longhaulpb.ServeQueueRequest_Hello{Queue: w.queue, Worker: "go", LeaseDuration: durationpb.New(lease)}
	for name, job := range w.jobs {
		held := &longhaulpb.ServeQueueRequest_Held{Name: name, LeaseToken: job.lease.GetLeaseToken()}
		hello.Held = append(hello.Held, held)
	}
	w.mutex.Unlock()
	request := &longhaulpb.ServeQueueRequest{Sequence: 1, Hello: hello, Slots: proto.Int32(w.slots)}
	for {
		unbegun := w.gather(request)
		// The reader gets the cause.
		if stream.Send(request) != nil {
			return
		}
		w.mutex.Lock()
		// Only now: the server would lease an operation that was never seen to another worker.
		for _, job := range unbegun {
			w.begin(job)
		}
		done := len(w.unsaid) == 0
		closing := w.stopping || (w.draining && len(w.jobs) == 0)
		heartbeat := w.heartbeat / 2
		w.mutex.Unlock()
		switch {
		case done && closing:
			stream.CloseSend()
			return
		case done:
			select {
			case <-w.news:
			case <-time.After(heartbeat):
			case <-ctx.Done():
				return
			}
		}
		request = &longhaulpb.ServeQueueRequest{Sequence: request.GetSequence() + 1}
	}
}

// Gather moves waiting calls into a message as far as there is room, and returns the jobs that may begin afterwards.
func (w *worker) gather(request *longhaulpb.ServeQueueRequest) []*job {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var calls []call
	for bytes := proto.Size(request); len(w.unsaid) > 0 && bytes < fullBytes; w.unsaid = w.unsaid[1:] {
		call := w.unsaid[0]
		switch call := call.(type) {
		case *longhaulpb.ReportProgressRequest:
			request.Reports = append(request.Reports, call)
		case *longhaulpb.CompleteOperationRequest:
			request.Completions = append(request.Completions, call)
		case *longhaulpb.FailOperationRequest:
			request.Failures = append(request.Failures, call)
		}
		bytes += proto.Size(call)
		calls = append(calls, call)
	}
	request.SeenSequence = w.seen
	w.sent = append(w.sent, message{request.GetSequence(), calls})
	var unbegun []*job
	for _, job := range w.jobs {
		if !job.begun && w.seen > 0 {
			unbegun = append(unbegun, job)
		}
	}
	return unbegun
}

// TakeIn handles a message of the server.
func (w *worker) takeIn(response *longhaulpb.ServeQueueResponse) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.seen = response.GetSequence()
	if welcome := response.GetWelcome(); welcome != nil {
		fmt.Println("serving")
		w.heartbeat = welcome.GetHeartbeatInterval().AsDuration()
		for _, name := range welcome.GetLost() {
			w.lose(name)
		}
	}
	for _, outcome := range response.GetOutcomes() {
		w.hear(outcome)
	}
	for ; len(w.sent) > 0 && w.sent[0].sequence <= response.GetAcknowledgedSequence(); w.sent = w.sent[1:] {
		for _, call := range w.sent[0].calls {
			if job := w.jobs[call.GetName()]; job != nil && job.last == call {
				delete(w.jobs, call.GetName())
			}
		}
	}
	for _, lease := range response.GetLeases() {
		w.lose(lease.GetOperation())
		ctx, cancel := context.WithCancel(context.Background())
		w.jobs[lease.GetOperation()] = &job{lease: lease, ctx: ctx, cancel: cancel, cancelRequested: lease.GetCancelRequested()}
	}
	for _, signal := range response.GetSignals() {
		if job := w.jobs[signal.GetName()]; job != nil && signal.GetDirective().GetCancelRequested() {
			job.cancelRequested = true
			job.cancel()
		}
	}
	w.draining = w.draining || response.GetDrainDuration() != nil
	if response.GetWelcome() != nil || len(response.GetLeases()) > 0 || w.draining {
		w.wake()
	}
}

// Hear handles a refusal or a lost lease.
func (w *worker) hear(outcome *longhaulpb.ServeQueueResponse_Outcome) {
	job := w.jobs[outcome.GetName()]
	if job == nil || outcome.GetError() == nil {
		return
	}
	fmt.Printf("%s: %s\n", outcome.GetName(), outcome.GetError().GetMessage())
	report := outcome.GetCall() == longhaulpb.ServeQueueResponse_Outcome_REPORT
	if outcome.GetSequence() == 0 {
		w.lose(outcome.GetName())
	} else if job.last != nil && !report && !slices.Contains(gone, code.Code(outcome.GetError().GetCode())) {
		// For example because the response is too large. The lease continues until another call ends it.
		w.fail(job, code.Code_INTERNAL, outcome.GetError().GetMessage())
	}
}

// Begin starts the work on a lease.
func (w *worker) begin(job *job) {
	name, token := job.lease.GetOperation(), job.lease.GetLeaseToken()
	fmt.Printf("%s: attempt %d\n", name, job.lease.GetAttempt())
	job.begun = true
	if job.cancelRequested || w.stopping {
		job.cancel()
	}
	report := func(fraction float64, message string) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		progress := &longhaulpb.Progress{Fraction: proto.Float64(fraction), Message: message}
		w.say(&longhaulpb.ReportProgressRequest{Name: name, LeaseToken: token, Progress: progress})
	}
	go func() {
		defer job.cancel()
		response, err := greet(job.ctx, job.lease, w.pause, report)
		w.mutex.Lock()
		defer w.mutex.Unlock()
		switch {
		case w.jobs[name] != job:
			// This worker no longer holds it.
		case err == nil:
			fmt.Printf("%s: done\n", name)
			job.last = &longhaulpb.CompleteOperationRequest{Name: name, LeaseToken: token, Response: response}
			w.say(job.last)
		case job.ctx.Err() == nil:
			w.fail(job, code.Code_UNKNOWN, err.Error())
		case job.cancelRequested:
			w.fail(job, code.Code_CANCELLED, "stopped as asked")
		}
	}()
}

// Fail ends an operation with an error.
func (w *worker) fail(job *job, code code.Code, message string) {
	job.last = &longhaulpb.FailOperationRequest{
		Name:       job.lease.GetOperation(),
		LeaseToken: job.lease.GetLeaseToken(),
		Error:      &status.Status{Code: int32(code), Message: message},
	}
	w.say(job.last)
}

// Say adds a call to the next message. A newer report replaces an older one.
func (w *worker) say(said call) {
	if _, ok := said.(*longhaulpb.ReportProgressRequest); ok {
		w.unsaid = slices.DeleteFunc(w.unsaid, func(older call) bool {
			_, ok := older.(*longhaulpb.ReportProgressRequest)
			return ok && older.GetLeaseToken() == said.GetLeaseToken()
		})
	}
	w.unsaid = append(w.unsaid, said)
	w.wake()
}

// Lose stops work on an operation that another worker has; for an ended one the repeated call tells.
func (w *worker) lose(name string) {
	if job := w.jobs[name]; job != nil && job.last == nil {
		delete(w.jobs, name)
		job.cancel()
	}
}

func (w *worker) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func main() {
	queue := flag.String("queue", "hello", "what to work on")
	slots := flag.Int("slots", 10, "how many operations at once")
	pause := flag.Float64("pause", 0.3, "seconds for each step")
	flag.Parse()
	server := "127.0.0.1:50051"
	if flag.NArg() > 0 {
		server = flag.Arg(0)
	}
	quick := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
		MinConnectTimeout: time.Second,
	}
	conn, err := grpc.NewClient(
		server, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(quick),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	w := &worker{
		queue: *queue,
		slots: int32(*slots),
		pause: time.Duration(*pause * float64(time.Second)),
		news:  make(chan struct{}, 1),
		jobs:  map[string]*job{},
	}
	if err := w.run(ctx, longhaulpb.NewWorkersClient(conn)); err != nil {
		log.Fatal(err)
	}
}
