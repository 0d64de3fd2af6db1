import com.google.api.core.ApiFuture;
import com.google.api.core.ApiFutures;
import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.httpjson.HttpJsonCallableFactory;
import com.google.api.gax.httpjson.HttpJsonOperationSnapshot;
import com.google.api.gax.httpjson.ProtoOperationTransformers.MetadataTransformer;
import com.google.api.gax.httpjson.ProtoOperationTransformers.ResponseTransformer;
import com.google.api.gax.httpjson.longrunning.OperationsClient;
import com.google.api.gax.httpjson.longrunning.stub.HttpJsonOperationsCallableFactory;
import com.google.api.gax.httpjson.longrunning.stub.HttpJsonOperationsStub;
import com.google.api.gax.httpjson.longrunning.stub.OperationsStubSettings;
import com.google.api.gax.longrunning.OperationSnapshot;
import com.google.api.gax.longrunning.OperationTimedPollAlgorithm;
import com.google.api.gax.retrying.RetrySettings;
import com.google.api.gax.rpc.ApiCallContext;
import com.google.api.gax.rpc.ApiException;
import com.google.api.gax.rpc.ClientContext;
import com.google.api.gax.rpc.OperationCallSettings;
import com.google.api.gax.rpc.UnaryCallSettings;
import com.google.api.gax.rpc.UnaryCallable;
import com.google.common.util.concurrent.MoreExecutors;
import com.google.longrunning.GetOperationRequest;
import com.google.longrunning.ListOperationsRequest;
import com.google.longrunning.Operation;
import com.google.protobuf.Empty;
import com.google.protobuf.TypeRegistry;
import com.google.type.Fraction;
import com.google.type.Money;
import java.time.Duration;
import java.util.concurrent.ExecutionException;

/**
 * gax over REST, without generated code: RestCaller SERVER COMMAND NAME.
 * {@code tests/interop/rest_tests.py} runs it.
 */
public final class RestCaller {
    private static final Duration FIRST_PAUSE = Duration.ofMillis(20);
    private static final Duration LONGEST = Duration.ofSeconds(30);

    public static void main(String[] args) throws Exception {
        var channels = OperationsStubSettings.defaultHttpJsonTransportProviderBuilder()
                .setEndpoint("http://" + args[0])
                .build();
        var settings = OperationsStubSettings.newBuilder()
                .setTransportChannelProvider(channels)
                .setCredentialsProvider(NoCredentialsProvider.create())
                .build();
        var context = ClientContext.create(settings);
        var types = TypeRegistry.newBuilder()
                .add(Money.getDescriptor())
                .add(Fraction.getDescriptor())
                .add(Empty.getDescriptor())
                .build();
        try (var stub = HttpJsonOperationsStub.create(
                        context, new HttpJsonOperationsCallableFactory(), types);
                var client = OperationsClient.create(stub)) {
            run(client, stub, context, args[1], args[2]);
        } catch (ApiException error) {
            show(error);
        }
        // Threads of the executor are none of daemons.
        System.exit(0);
    }

    private static void run(
            OperationsClient client,
            HttpJsonOperationsStub stub,
            ClientContext context,
            String command,
            String name)
            throws Exception {
        switch (command) {
            case "get" -> {
                var operation = client.getOperation(name);
                System.out.println(
                        operation.getName() + (operation.getDone() ? " done" : " running"));
            }
            case "list" -> {
                var request = ListOperationsRequest.newBuilder().setName(name).setPageSize(2);
                for (var operation : client.listOperations(request.build()).iterateAll()) {
                    System.out.println(operation.getName());
                }
            }
            case "cancel" -> {
                client.cancelOperation(name);
                System.out.println("ok");
            }
            case "delete" -> {
                client.deleteOperation(name);
                System.out.println("ok");
            }
            case "result" -> result(stub, context, name);
            default -> throw new IllegalArgumentException(command);
        }
    }

    /** Polls as generated clients do; here the start is a Get of what was started already. */
    private static void result(HttpJsonOperationsStub stub, ClientContext context, String name)
            throws Exception {
        var pauses = RetrySettings.newBuilder()
                .setInitialRetryDelayDuration(FIRST_PAUSE)
                .setRetryDelayMultiplier(1.0)
                .setMaxRetryDelayDuration(FIRST_PAUSE)
                .setTotalTimeoutDuration(LONGEST)
                .build();
        var initial = UnaryCallSettings
                .<GetOperationRequest, OperationSnapshot>newUnaryCallSettingsBuilder()
                .build();
        var settings = OperationCallSettings
                .<GetOperationRequest, Money, Fraction>newBuilder()
                .setInitialCallSettings(initial)
                .setResponseTransformer(ResponseTransformer.create(Money.class))
                .setMetadataTransformer(MetadataTransformer.create(Fraction.class))
                .setPollingAlgorithm(OperationTimedPollAlgorithm.create(pauses))
                .build();
        var callable = HttpJsonCallableFactory.createOperationCallable(
                settings, context, stub.longRunningClient(), new Started(stub));
        var future = callable.futureCall(
                GetOperationRequest.newBuilder().setName(name).build());
        try {
            var last = "";
            while (!future.isDone()) {
                var share = future.peekMetadata();
                if (share != null) {
                    var shown = share.get().getNumerator() + "/" + share.get().getDenominator();
                    if (!shown.equals(last)) {
                        System.out.println("metadata " + shown);
                        last = shown;
                    }
                }
                Thread.sleep(FIRST_PAUSE.toMillis());
            }
            var price = future.get();
            System.out.println("result " + price.getCurrencyCode() + " " + price.getUnits());
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof ApiException cause)) {
                throw error;
            }
            show(cause);
        }
    }

    private static void show(ApiException error) {
        // The message begins with the class of its cause, or with the name of the operation.
        var message = error.getMessage().replaceFirst("^([\\w.]+: |.* and message = )", "");
        System.out.println("error " + error.getClass().getSimpleName() + " " + message);
    }

    private static final class Started
            extends UnaryCallable<GetOperationRequest, OperationSnapshot> {
        private final HttpJsonOperationsStub stub;

        Started(HttpJsonOperationsStub stub) {
            this.stub = stub;
        }

        @Override
        public ApiFuture<OperationSnapshot> futureCall(
                GetOperationRequest request, ApiCallContext context) {
            ApiFuture<Operation> got = stub.getOperationCallable().futureCall(request, context);
            return ApiFutures.transform(
                    got, HttpJsonOperationSnapshot::create, MoreExecutors.directExecutor());
        }
    }
}
