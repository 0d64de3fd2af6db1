// Starts an operation that greets a person, and prints its name: producer [WHOM [SERVER]].

import { promisify } from "node:util";
import { credentials } from "@grpc/grpc-js";
import { packed, v1 } from "./longhaul.js";

const [person = "world", server = "127.0.0.1:50051"] = process.argv.slice(2);
const producers = new v1.Producers(server, credentials.createInsecure());
const startOperation = promisify(producers.startOperation.bind(producers));

const started = await startOperation({
  queue: "hello",
  method: "greet",
  request: packed({ name: person }),
  responseType: "google.protobuf.Struct",
});
console.log(started!.name);
producers.close();
