// Waits for an operation with the stock client, google-gax: caller NAME [SERVER].
//
// This is how users of an API call methods that return operations. Only the types of metadata
// and response are the API's; here they are longhaul's own metadata, and a Struct.

import gax from "google-gax";
import { GoogleAuth, PassThroughClient } from "google-auth-library";
import { structType, v1 } from "./longhaul.js";

const [name, server = "127.0.0.1:50051"] = process.argv.slice(2);
const [servicePath, port] = server.split(":");
const auth = new GoogleAuth({ authClient: new PassThroughClient() });
const client = gax.lro({ auth }).operationsClient({
  servicePath,
  port: Number(port),
  sslCreds: gax.grpc.credentials.createInsecure(),
});

const descriptor = new gax.LongrunningDescriptor(
  client,
  structType.deserialize as never,
  v1.OperationMetadata.deserialize as never,
);
const [started] = await client.getOperation({ name } as never);
const operation = gax.operation(started as never, descriptor, gax.createDefaultBackoffSettings());
operation.on("progress", ({ state, progress }) => {
  const percent = Math.round(100 * Number(progress?.fraction ?? 0));
  console.log(`progress ${state} ${percent}% ${progress?.message ?? ""}`);
});
try {
  const [response] = await operation.promise() as any[];
  console.log(`response ${response.fields.greeting.stringValue}`);
} catch (error: any) {
  console.log(`error ${error.code} ${error.message}`);
}
client.close();
