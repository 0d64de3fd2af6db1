// Reads deliveries from standard input; Node's reference libraries accept them, and refuse altered ones.
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { HTTP } from "cloudevents";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

// What precedes the 32 bytes of an Ed25519 key in its DER form.
const ED25519 = Buffer.from("302a300506032b6570032100", "hex");

// The library knows no entries v1a, so Node itself checks them.
function checkPublic(publicKey, body, headers) {
  const raw = Buffer.from(publicKey.slice("whpk_".length), "base64");
  const key = createPublicKey({ key: Buffer.concat([ED25519, raw]), format: "der", type: "spki" });
  const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  const entries = headers["webhook-signature"].split(" ").filter((entry) => entry.startsWith("v1a,"));
  if (!entries.some((entry) => verify(null, signed, key, Buffer.from(entry.slice(4), "base64")))) {
    throw new WebhookVerificationError("no signature fits");
  }
}

function checkSignature(key, body, headers) {
  if (key.startsWith("whpk_")) checkPublic(key, body, headers);
  else new Webhook(key).verify(body, headers);
}

function checkEvent(headers, body) {
  const event = HTTP.toEvent({ headers, body });
  event.validate();
  return event;
}

const deliveries = JSON.parse(readFileSync(0, "utf8"));
for (const { kind, key, operation, headers, body } of deliveries) {
  checkSignature(key, body, headers);
  const later = String(Number(headers["webhook-timestamp"]) + 1);
  for (const [what, changed, otherHeaders] of [
    ["body", `${body} `, headers],
    ["id", body, { ...headers, "webhook-id": `${headers["webhook-id"]}x` }],
    ["timestamp", body, { ...headers, "webhook-timestamp": later }],
    ["signature", body, { ...headers, "webhook-signature": `v1,${"A".repeat(43)}=` }],
  ]) {
    const refused = () => checkSignature(key, changed, otherHeaders);
    assert.throws(refused, WebhookVerificationError, `${kind}: accepted with another ${what}`);
  }

  const event = checkEvent(headers, body);
  assert.equal(event.id, headers["webhook-id"], kind);
  assert.equal(event.specversion, "1.0", kind);
  assert.equal(event.type, "dev.longhaul.operation.done", kind);
  assert.equal(event.subject, operation, kind);
  const { "ce-type": _type, ...less } = headers;
  const { type: _, ...lessBody } = JSON.parse(body);
  const content = "ce-type" in headers ? body : JSON.stringify(lessBody);
  assert.throws(() => checkEvent(less, content), undefined, `${kind}: accepted without a type`);
}
console.log(`${deliveries.length} deliveries`);
