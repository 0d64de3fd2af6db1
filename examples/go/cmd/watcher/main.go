// Watcher prints the states of an operation until it is done: watcher NAME [SERVER].
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"
	longhaulpb "longhaul.dev/longhaul/v1"
)

func main() {
	args := append(os.Args[1:], "127.0.0.1:50051")
	if len(os.Args) < 2 {
		log.Fatal("usage: watcher NAME [SERVER]")
	}
	if err := watch(context.Background(), args[0], args[1]); err != nil {
		log.Fatal(err)
	}
}

func watch(ctx context.Context, name, server string) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	callers := longhaulpb.NewCallersClient(conn)
	request := &longhaulpb.WatchOperationRequest{Name: name}
	for {
		done, err := attach(ctx, callers, request)
		if done || err != nil {
			return err
		}
	}
}

// Attach watches until the server ends the stream, and says whether the operation is done.
func attach(
	ctx context.Context,
	callers longhaulpb.CallersClient,
	request *longhaulpb.WatchOperationRequest,
) (bool, error) {
	stream, err := callers.WatchOperation(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if token := event.GetResumeToken(); token != "" {
			request.ResumeToken = token
		}
		if event.GetOperation() != nil {
			metadata := event.GetServerMetadata()
			progress := metadata.GetProgress()
			percent := 100 * progress.GetFraction()
			fmt.Printf("%s %.0f%% %s\n", metadata.GetState(), percent, progress.GetMessage())
		}
		switch event.GetType() {
		case longhaulpb.WatchOperationResponse_RECONNECT:
			fmt.Println("reconnect")
			time.Sleep(event.GetReconnectDelay().AsDuration())
		case longhaulpb.WatchOperationResponse_DELETED:
			return false, errors.New("it was deleted")
		case longhaulpb.WatchOperationResponse_DONE:
			return true, show(event.GetOperation())
		}
	}
}

// Show prints how a finished operation ended.
func show(operation *longrunningpb.Operation) error {
	if failure := operation.GetError(); failure != nil {
		fmt.Printf("error %d %s\n", failure.GetCode(), failure.GetMessage())
		return nil
	}
	response := &structpb.Struct{}
	if err := operation.GetResponse().UnmarshalTo(response); err != nil {
		return err
	}
	fmt.Println("response", response.GetFields()["greeting"].GetStringValue())
	return nil
}
