package dev.longhaul.examples;

import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.grpc.InstantiatingGrpcChannelProvider;
import com.google.longrunning.OperationsClient;
import com.google.longrunning.OperationsSettings;
import com.google.longrunning.WaitOperationRequest;
import com.google.protobuf.Duration;
import io.grpc.ManagedChannelBuilder;

/**
 * Waits for an operation with the stock client, gax: Caller NAME [SERVER]. With --list in place of
 * the name, lists those without a parent.
 *
 * <p>It knows nothing of longhaul: it is how users of an API call methods that return
 * operations.
 */
public final class Caller {
    public static void main(String[] args) throws Exception {
        var name = args[0];
        var server = args.length > 1 ? args[1] : "127.0.0.1:50051";

        var channels = InstantiatingGrpcChannelProvider.newBuilder()
                .setEndpoint(server)
                .setChannelConfigurator(ManagedChannelBuilder::usePlaintext)
                .build();
        var settings = OperationsSettings.newBuilder()
                .setTransportChannelProvider(channels)
                .setCredentialsProvider(NoCredentialsProvider.create())
                .build();
        try (var client = OperationsClient.create(settings)) {
            if (name.equals("--list")) {
                for (var operation : client.listOperations("operations", "").iterateAll()) {
                    System.out.println(operation.getName());
                }
                return;
            }
            var operation = client.getOperation(name);
            while (!operation.getDone()) {
                operation = client.waitOperation(WaitOperationRequest.newBuilder()
                        .setName(name)
                        .setTimeout(Duration.newBuilder().setSeconds(60))
                        .build());
            }
            Watcher.show(operation);
        }
    }

    private Caller() {}
}
