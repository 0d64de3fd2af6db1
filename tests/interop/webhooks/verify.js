// Reads a delivery from standard input; Node's reference libraries accept it, and refuse altered ones.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { HTTP } from "cloudevents";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const { secret, headers, body, subject } = JSON.parse(readFileSync(0, "utf8"));
const webhook = new Webhook(secret);
webhook.verify(body, headers);
const refused = (body, headers) =>
  assert.throws(() => webhook.verify(body, headers), WebhookVerificationError);
refused(`${body} `, headers);
refused(body, { ...headers, "webhook-id": `${headers["webhook-id"]}x` });
refused(body, { ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) + 1) });
refused(body, { ...headers, "webhook-signature": `v1,${"A".repeat(43)}=` });

const event = HTTP.toEvent({ headers, body });
assert.equal(event.id, headers["webhook-id"]);
assert.equal(event.specversion, "1.0");
assert.equal(event.subject, subject);
event.validate();
