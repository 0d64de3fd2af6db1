// What a page can do: watch an operation with EventSource, with gRPC-Web in its two forms, and call methods.
// `tests/interop/browser_tests.py` serves it from another port than longhaul's, and reads what it says.

import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";

const parameters = new URLSearchParams(location.search);
const [server, name] = [parameters.get("server"), parameters.get("name")];

// One after the other, so that they arrive in order.
let said = Promise.resolve();
function say(...words) {
  said = said.then(() => fetch("/said", { method: "POST", body: words.join(" ") }));
}
const pause = () => new Promise((resolve) => setTimeout(resolve, 100));

const bytes = await (await fetch("/types.binpb")).arrayBuffer();
const types = createFileRegistry(fromBinary(FileDescriptorSetSchema, new Uint8Array(bytes)));
const callers = types.getService("longhaul.v1.Callers");
const operations = types.getService("google.longrunning.Operations");
const request = types.getMessage("longhaul.v1.WatchOperationRequest");
const response = types.getMessage("longhaul.v1.WatchOperationResponse");
const errorInfo = types.getMessage("google.rpc.ErrorInfo");
const states = types.getEnum("longhaul.v1.OperationRecord.State");
const kinds = response.fields.find((field) => field.name === "type").enum;
const kindOf = (event) => kinds.value[event.type].name;

/** Says the state in an event; returns whether it is the last. */
function show(watcher, event) {
  if (event.serverMetadata) {
    const { state, progress } = event.serverMetadata;
    say(watcher, states.value[state].name, progress?.fraction ?? 0);
  }
  return kindOf(event) === "DONE";
}

function watchEvents() {
  const source = new EventSource(`${server}/v1/${name}:watch`);
  source.onmessage = ({ data }) => {
    const { serverMetadata } = JSON.parse(data);
    if (serverMetadata) {
      say("events", serverMetadata.state, serverMetadata.progress?.fraction ?? 0);
    }
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) say("events closed");
  };
}

async function watchInBytes() {
  const client = createClient(callers, createGrpcWebTransport({ baseUrl: server }));
  for (let resumeToken = ""; ; await pause()) {
    try {
      for await (const event of client.watchOperation({ name, resumeToken })) {
        if (show("bytes", event)) return;
        resumeToken = event.resumeToken || resumeToken;
      }
    } catch {
      // The server is away.
    }
  }
}

function watchAsText(resumeToken = "") {
  const client = new GrpcWebClientBase({ format: "text" });
  const method = new MethodDescriptor(
    "/longhaul.v1.Callers/WatchOperation",
    MethodType.SERVER_STREAMING,
    Object,
    Object,
    (message) => toBinary(request, message),
    (message) => fromBinary(response, message),
  );
  const message = create(request, { name, resumeToken });
  const stream = client.serverStreaming(`${server}${method.getName()}`, message, {}, method);
  let isOver = false;
  const again = () => {
    if (!isOver) pause().then(() => watchAsText(resumeToken));
    isOver = true;
  };
  stream.on("data", (event) => {
    isOver ||= show("text", event);
    resumeToken = event.resumeToken || resumeToken;
  });
  stream.on("error", again);
  stream.on("end", again);
}

async function callMethods() {
  const client = createClient(operations, createGrpcWebTransport({ baseUrl: server }));
  const found = await client.getOperation({ name });
  say("got", found.name === name, found.done);
  try {
    await client.getOperation({ name: "operations/none" });
  } catch (error) {
    const [info] = error.findDetails(errorInfo);
    say("refused", Code[error.code], info.reason);
  }
  const status = await fetch(`${server}/v1/${name}`);
  const links = ["etag", "link"].every((header) => status.headers.get(header));
  say("status", status.status, (await status.json()).name === name, links);
  const started = await fetch(`${server}/v1/operations:start`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ queue: "page" }),
  });
  const place = `/v1/${(await started.json()).name}`;
  say("started", started.status, started.headers.get("location") === place);
}

addEventListener("error", ({ message }) => say("error", message));
addEventListener("unhandledrejection", ({ reason }) => say("error", reason));
watchEvents();
watchAsText();
await Promise.all([watchInBytes(), callMethods()]);
