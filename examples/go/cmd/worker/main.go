// Worker works on queue `hello` until it is stopped, or on one operation: worker [-once] [SERVER].
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	longhaulpb "longhaul.dev/longhaul/v1"
)

const steps = 5

func main() {
	once := flag.Bool("once", false, "stop after one operation")
	flag.Parse()
	server := "127.0.0.1:50051"
	if flag.NArg() > 0 {
		server = flag.Arg(0)
	}
	if err := work(context.Background(), server, *once); err != nil {
		log.Fatal(err)
	}
}

func work(ctx context.Context, server string, once bool) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	workers := longhaulpb.NewWorkersClient(conn)
	for {
		// At most one lease; none if no operation became ready within the wait.
		answer, err := workers.LeaseOperations(ctx, &longhaulpb.LeaseOperationsRequest{
			Queue:        "hello",
			Worker:       "go",
			WaitDuration: durationpb.New(20 * time.Second),
		})
		if err != nil {
			return err
		}
		for _, lease := range answer.GetLeases() {
			if err := greet(ctx, workers, lease); err != nil || once {
				return err
			}
		}
	}
}

// Greet does the work of one operation.
func greet(ctx context.Context, workers longhaulpb.WorkersClient, lease *longhaulpb.Lease) error {
	for step := 1; step <= steps; step++ {
		time.Sleep(300 * time.Millisecond)
		// A report also renews the lease, and its response says whether to stop.
		report, err := workers.ReportProgress(ctx, &longhaulpb.ReportProgressRequest{
			Name:       lease.GetOperation(),
			LeaseToken: lease.GetLeaseToken(),
			Progress: &longhaulpb.Progress{
				Fraction: proto.Float64(float64(step) / steps),
				Message:  fmt.Sprintf("step %d", step),
			},
		})
		if err != nil {
			return err
		}
		if report.GetDirective().GetCancelRequested() {
			_, err := workers.FailOperation(ctx, &longhaulpb.FailOperationRequest{
				Name:       lease.GetOperation(),
				LeaseToken: lease.GetLeaseToken(),
				Error:      &status.Status{Code: int32(code.Code_CANCELLED), Message: "stopped as asked"},
			})
			return err
		}
	}
	request := &structpb.Struct{}
	if err := lease.GetRequest().UnmarshalTo(request); err != nil {
		return err
	}
	greeting := "hello " + request.GetFields()["name"].GetStringValue()
	content, err := structpb.NewStruct(map[string]any{"greeting": greeting})
	if err != nil {
		return err
	}
	response, err := anypb.New(content)
	if err != nil {
		return err
	}
	_, err = workers.CompleteOperation(ctx, &longhaulpb.CompleteOperationRequest{
		Name:       lease.GetOperation(),
		LeaseToken: lease.GetLeaseToken(),
		Response:   response,
	})
	return err
}
