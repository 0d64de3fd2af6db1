// google-gax over REST: rest.js SERVER COMMAND NAME. `tests/interop/rest_tests.py` runs it.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import gax from "google-gax";
import { PassThroughClient } from "google-auth-library";

const { fallback, protobuf } = gax;
const [server, command, name] = process.argv.slice(2);
const [servicePath, port] = server.split(":");

// What a generated client has in its protos.json.
const folders = ["../../../proto", "node_modules/google-gax/build/protos"].map((folder) =>
  fileURLToPath(new URL(folder, import.meta.url)),
);
const root = new protobuf.Root();
root.resolvePath = (_, file) =>
  folders.map((folder) => `${folder}/${file}`).find(existsSync) ?? null;
root.loadSync([
  "google/longrunning/operations.proto",
  "google/type/fraction.proto",
  "google/type/money.proto",
  "longhaul/v1/callers.proto",
]);
root.resolveAll();
const Money = root.lookupType("google.type.Money");
const Fraction = root.lookupType("google.type.Fraction");

// And what it has from the configuration of its service.
const httpRules = [
  ["GetOperation", { get: "/v1/{name=projects/*/operations/*}" }],
  ["ListOperations", { get: "/v1/{name=projects/*}/operations" }],
  ["CancelOperation", { post: "/v1/{name=projects/*/operations/*}:cancel", body: "*" }],
  ["DeleteOperation", { delete: "/v1/{name=projects/*/operations/*}" }],
].map(([method, rule]) => ({ selector: `google.longrunning.Operations.${method}`, ...rule }));

const auth = new PassThroughClient();
const place = { servicePath, port: Number(port), protocol: "http" };
const client = fallback.lro({ auth, protoJson: root, httpRules }).operationsClient({ ...place });

async function result() {
  const [started] = await client.getOperation({ name });
  const descriptor = new fallback.LongrunningDescriptor(
    client,
    Money.decode.bind(Money),
    Fraction.decode.bind(Fraction),
  );
  const pauses = fallback.createDefaultBackoffSettings();
  const operation = gax.operation(started, descriptor, pauses);
  const show = (share) => console.log(`metadata ${share.numerator}/${share.denominator}`);
  // It tells of changes alone.
  if (operation.metadata) show(operation.metadata);
  operation.on("progress", show);
  const [price] = await operation.promise();
  console.log(`result ${price.currencyCode} ${price.units}`);
}

async function watch() {
  const grpc = new fallback.GrpcClient({ auth, fallback: true });
  const stub = await grpc.createStub(root.lookupService("longhaul.v1.Callers"), { ...place });
  const watching = fallback.createApiCall(
    Promise.resolve((...args) => stub.watchOperation(...args)),
    new fallback.CallSettings(),
    new fallback.StreamDescriptor(fallback.StreamType.SERVER_STREAMING, true),
  );
  for await (const event of watching({ name }, {})) {
    console.log(`${event.type} ${event.serverMetadata?.state ?? ""}`.trim());
  }
}

const commands = {
  async get() {
    const [operation] = await client.getOperation({ name });
    console.log(`${operation.name} ${operation.done ? "done" : "running"}`);
  },
  async list() {
    for await (const operation of client.listOperationsAsync({ name, pageSize: 2 })) {
      console.log(operation.name);
    }
  },
  async cancel() {
    await client.cancelOperation({ name });
    console.log("ok");
  },
  async delete() {
    await client.deleteOperation({ name });
    console.log("ok");
  },
  result,
  watch,
};

try {
  await commands[command]();
} catch (error) {
  console.log(`error ${error.constructor.name} ${error.code} ${error.message}`);
}
client.close();
