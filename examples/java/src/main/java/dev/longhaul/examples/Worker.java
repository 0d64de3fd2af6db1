package dev.longhaul.examples;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.rpc.Code;
import com.google.rpc.Status;
import dev.longhaul.v1.CompleteOperationRequest;
import dev.longhaul.v1.FailOperationRequest;
import dev.longhaul.v1.Lease;
import dev.longhaul.v1.LeaseOperationsRequest;
import dev.longhaul.v1.Progress;
import dev.longhaul.v1.ReportProgressRequest;
import dev.longhaul.v1.WorkersGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import java.util.Arrays;

/** Works on queue `hello` until it is stopped, or on one operation: Worker [SERVER] [--once]. */
public final class Worker {
    private static final int STEPS = 5;

    public static void main(String[] args) throws Exception {
        var once = Arrays.asList(args).contains("--once");
        var server = Arrays.stream(args)
                .filter(word -> !word.equals("--once"))
                .findFirst()
                .orElse("127.0.0.1:50051");

        var channel = Grpc.newChannelBuilder(server, InsecureChannelCredentials.create()).build();
        var workers = WorkersGrpc.newBlockingStub(channel);
        var ask = LeaseOperationsRequest.newBuilder()
                .setQueue("hello")
                .setWorker("java")
                .setWaitDuration(Duration.newBuilder().setSeconds(20))
                .build();
        var worked = 0;
        while (!(once && worked > 0)) {
            // At most one lease; none if no operation became ready within the wait.
            for (var lease : workers.leaseOperations(ask).getLeasesList()) {
                greet(workers, lease);
                worked++;
            }
        }
        channel.shutdownNow();
    }

    /** Does the work of one operation. */
    private static void greet(WorkersGrpc.WorkersBlockingStub workers, Lease lease)
            throws Exception {
        for (var step = 1; step <= STEPS; step++) {
            Thread.sleep(300);
            // A report also renews the lease, and its response says whether to stop.
            var report = workers.reportProgress(ReportProgressRequest.newBuilder()
                    .setName(lease.getOperation())
                    .setLeaseToken(lease.getLeaseToken())
                    .setProgress(Progress.newBuilder()
                            .setFraction((double) step / STEPS)
                            .setMessage("step " + step))
                    .build());
            if (report.getDirective().getCancelRequested()) {
                workers.failOperation(FailOperationRequest.newBuilder()
                        .setName(lease.getOperation())
                        .setLeaseToken(lease.getLeaseToken())
                        .setError(Status.newBuilder()
                                .setCode(Code.CANCELLED_VALUE)
                                .setMessage("stopped as asked"))
                        .build());
                return;
            }
        }
        var request = lease.getRequest().unpack(Struct.class);
        var greeting = "hello " + request.getFieldsOrThrow("name").getStringValue();
        var response = Struct.newBuilder()
                .putFields("greeting", Value.newBuilder().setStringValue(greeting).build())
                .build();
        workers.completeOperation(CompleteOperationRequest.newBuilder()
                .setName(lease.getOperation())
                .setLeaseToken(lease.getLeaseToken())
                .setResponse(Any.pack(response))
                .build());
    }

    private Worker() {}
}
