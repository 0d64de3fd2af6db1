package dev.longhaul.examples;

import com.google.protobuf.Any;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import dev.longhaul.v1.ProducersGrpc;
import dev.longhaul.v1.StartOperationRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;

/** Starts an operation that greets a person, and prints its name: Producer [WHOM [SERVER]]. */
public final class Producer {
    public static void main(String[] args) {
        var person = args.length > 0 ? args[0] : "world";
        var server = args.length > 1 ? args[1] : "127.0.0.1:50051";

        var channel = Grpc.newChannelBuilder(server, InsecureChannelCredentials.create()).build();
        var producers = ProducersGrpc.newBlockingStub(channel);
        var request = Struct.newBuilder()
                .putFields("name", Value.newBuilder().setStringValue(person).build())
                .build();
        var started = producers.startOperation(StartOperationRequest.newBuilder()
                .setQueue("hello")
                .setMethod("greet")
                .setRequest(Any.pack(request))
                .setResponseType("google.protobuf.Struct")
                .build());
        System.out.println(started.getName());
        channel.shutdownNow();
    }

    private Producer() {}
}
