package dev.longhaul.examples;

import com.google.longrunning.Operation;
import com.google.protobuf.Struct;
import dev.longhaul.v1.CallersGrpc;
import dev.longhaul.v1.WatchOperationRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;

/** Prints the states of an operation until it is done: Watcher NAME [SERVER]. */
public final class Watcher {
    private final CallersGrpc.CallersBlockingStub callers;
    private final WatchOperationRequest.Builder request = WatchOperationRequest.newBuilder();

    private Watcher(CallersGrpc.CallersBlockingStub callers, String name) {
        this.callers = callers;
        request.setName(name);
    }

    public static void main(String[] args) throws Exception {
        var server = args.length > 1 ? args[1] : "127.0.0.1:50051";
        var channel = Grpc.newChannelBuilder(server, InsecureChannelCredentials.create()).build();
        var watcher = new Watcher(CallersGrpc.newBlockingStub(channel).withWaitForReady(), args[0]);
        while (!watcher.attach()) {}
        channel.shutdownNow();
    }

    /** Watches until the server ends the stream, and says whether the operation is done. */
    private boolean attach() throws Exception {
        var events = callers.watchOperation(request.build());
        while (events.hasNext()) {
            var event = events.next();
            if (!event.getResumeToken().isEmpty()) {
                request.setResumeToken(event.getResumeToken());
            }
            if (event.hasOperation()) {
                var metadata = event.getServerMetadata();
                var progress = metadata.getProgress();
                System.out.printf(
                        "%s %.0f%% %s%n",
                        metadata.getState(), 100 * progress.getFraction(), progress.getMessage());
            }
            switch (event.getType()) {
                case RECONNECT -> {
                    System.out.println("reconnect");
                    Thread.sleep(1000 * event.getReconnectDelay().getSeconds());
                }
                case DELETED -> throw new IllegalStateException("it was deleted");
                case DONE -> {
                    show(event.getOperation());
                    return true;
                }
                default -> {}
            }
        }
        return false;
    }

    /** Prints how a finished operation ended. */
    static void show(Operation operation) throws Exception {
        if (operation.hasError()) {
            var error = operation.getError();
            System.out.printf("error %d %s%n", error.getCode(), error.getMessage());
        } else {
            var response = operation.getResponse().unpack(Struct.class);
            var greeting = response.getFieldsOrThrow("greeting").getStringValue();
            System.out.println("response " + greeting);
        }
    }
}
