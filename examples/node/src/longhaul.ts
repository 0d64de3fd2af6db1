// The services of longhaul.v1, typed by what `npm run stubs` makes, and Struct as an Any.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";
import type { ProtoGrpcType as Callers } from "./gen/callers.js";
import type { ProtoGrpcType as Producers } from "./gen/producers.js";
import type { ProtoGrpcType as Workers } from "./gen/workers.js";
import type { Any__Output } from "./gen/google/protobuf/Any.js";
import type { Struct, Struct__Output } from "./gen/google/protobuf/Struct.js";

// Where the definitions are: proto/ beside dist/ in a project of your own, and of this repository beside examples/.
const places = ["../proto", "../../../proto"].map((place) => fileURLToPath(new URL(place, import.meta.url)));
const proto = places.find((place) => existsSync(place)) ?? "proto";

const files = ["callers", "producers", "workers"].map((name) => `longhaul/v1/${name}.proto`);
// The same settings as in `npm run stubs`; Google's own files come from google-gax.
const definitions = loadSync([...files, "google/protobuf/struct.proto"], {
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
  json: true,
  includeDirs: [
    proto,
    fileURLToPath(new URL("../node_modules/google-gax/build/protos", import.meta.url)),
  ],
});
export const { v1 } = (
  loadPackageDefinition(definitions) as unknown as Callers & Producers & Workers
).longhaul;

export const structType = definitions["google.protobuf.Struct"] as MessageTypeDefinition<
  Struct,
  Struct__Output
>;

/** Packs texts as a Struct. */
export function packed(texts: Record<string, string>) {
  const fields = Object.entries(texts).map(([key, stringValue]) => [key, { stringValue }]);
  return {
    "@type": "type.googleapis.com/google.protobuf.Struct",
    fields: Object.fromEntries(fields),
  };
}

/** Returns a text out of a packed Struct. */
export function text(any: Any__Output | null, key: string): string {
  return (any as unknown as Struct__Output).fields?.[key]?.stringValue ?? "";
}
