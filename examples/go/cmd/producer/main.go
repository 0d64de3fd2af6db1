// Producer starts an operation that greets a person, and prints its name: producer [WHOM [SERVER]].
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	longhaulpb "longhaul.dev/longhaul/v1"
)

func main() {
	args := append(os.Args[1:], []string{"world", "127.0.0.1:50051"}[min(len(os.Args)-1, 2):]...)
	if err := produce(args[0], args[1]); err != nil {
		log.Fatal(err)
	}
}

func produce(person, server string) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	content, err := structpb.NewStruct(map[string]any{"name": person})
	if err != nil {
		return err
	}
	request, err := anypb.New(content)
	if err != nil {
		return err
	}
	started, err := longhaulpb.NewProducersClient(conn).StartOperation(context.Background(),
		&longhaulpb.StartOperationRequest{
			Queue:        "hello",
			Method:       "greet",
			Request:      request,
			ResponseType: "google.protobuf.Struct",
		})
	if err != nil {
		return err
	}
	fmt.Println(started.GetName())
	return nil
}
