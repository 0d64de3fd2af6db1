// Prints the states of an operation until it is done: watcher NAME [SERVER].

import { setTimeout as sleep } from "node:timers/promises";
import { credentials, Metadata } from "@grpc/grpc-js";
import type { Operation__Output } from "./gen/google/longrunning/Operation.js";
import type { WatchOperationResponse__Output } from "./gen/longhaul/v1/WatchOperationResponse.js";
import { text, v1 } from "./longhaul.js";

const [name, server = "127.0.0.1:50051"] = process.argv.slice(2);
const callers = new v1.Callers(server, credentials.createInsecure());
const whenReady = new Metadata({ waitForReady: true });

let resumeToken = "";

/** Watches until the server ends the stream, and says whether the operation is done. */
async function attach(): Promise<boolean> {
  const stream = callers.watchOperation({ name, resumeToken }, whenReady);
  for await (const event of stream as AsyncIterable<WatchOperationResponse__Output>) {
    resumeToken = event.resumeToken || resumeToken;
    if (event.operation) {
      const { state, progress } = event.serverMetadata!;
      const percent = Math.round(100 * Number(progress?.fraction ?? 0));
      console.log(`${state} ${percent}% ${progress?.message ?? ""}`);
    }
    if (event.type === "RECONNECT") {
      console.log("reconnect");
      await sleep(1000 * Number(event.reconnectDelay?.seconds ?? 0));
    } else if (event.type === "DELETED") {
      throw new Error("it was deleted");
    } else if (event.type === "DONE") {
      show(event.operation!);
      return true;
    }
  }
  return false;
}

/** Prints how a finished operation ended. */
function show(operation: Operation__Output) {
  if (operation.error) {
    console.log(`error ${operation.error.code} ${operation.error.message}`);
  } else {
    console.log(`response ${text(operation.response!, "greeting")}`);
  }
}

while (!(await attach()));
callers.close();
