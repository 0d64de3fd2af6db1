// Caller waits for an operation with the stock client: caller [-rpc] NAME [SERVER].
//
// It knows nothing of longhaul: it is how users of an API call methods that return
// operations.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"cloud.google.com/go/longrunning"
	autogen "cloud.google.com/go/longrunning/autogen"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

func main() {
	rpc := flag.Bool("rpc", false, "let the server wait, by WaitOperation, instead of polling")
	flag.Parse()
	if flag.NArg() < 1 {
		log.Fatal("usage: caller [-rpc] NAME [SERVER]")
	}
	args := append(flag.Args(), "127.0.0.1:50051")
	if err := call(context.Background(), args[0], args[1], *rpc); err != nil {
		log.Fatal(err)
	}
}

func call(ctx context.Context, name, server string, rpc bool) error {
	conn, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	client, err := autogen.NewOperationsClient(ctx, option.WithGRPCConn(conn))
	if err != nil {
		return err
	}
	defer client.Close()

	var operation *longrunningpb.Operation
	if rpc {
		operation, err = client.WaitOperation(ctx, &longrunningpb.WaitOperationRequest{
			Name:    name,
			Timeout: durationpb.New(time.Minute),
		})
	} else {
		operation, err = client.GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
	}
	if err != nil {
		return err
	}
	response := &structpb.Struct{}
	err = longrunning.InternalNewOperation(client, operation).Wait(ctx, response)
	if failure, ok := status.FromError(err); !ok {
		return err
	} else if err != nil {
		fmt.Printf("error %d %s\n", failure.Code(), failure.Message())
		return nil
	}
	fmt.Println("response", response.GetFields()["greeting"].GetStringValue())
	return nil
}
