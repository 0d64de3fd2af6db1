// Works on queue `hello` until it is stopped, or on one operation: worker [SERVER] [--once].

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { credentials, status } from "@grpc/grpc-js";
import type { Lease__Output } from "./gen/longhaul/v1/Lease.js";
import { packed, text, v1 } from "./longhaul.js";

const STEPS = 5;

const { values, positionals } = parseArgs({
  options: { once: { type: "boolean" } },
  allowPositionals: true,
});
const [server = "127.0.0.1:50051"] = positionals;
const workers = new v1.Workers(server, credentials.createInsecure());
const leaseOperations = promisify(workers.leaseOperations.bind(workers));
const reportProgress = promisify(workers.reportProgress.bind(workers));
const completeOperation = promisify(workers.completeOperation.bind(workers));
const failOperation = promisify(workers.failOperation.bind(workers));

/** Does the work of one operation. */
async function greet(lease: Lease__Output) {
  const owned = { name: lease.operation, leaseToken: lease.leaseToken };
  for (let step = 1; step <= STEPS; step++) {
    await sleep(300);
    // A report also renews the lease, and its response says whether to stop.
    const progress = { fraction: step / STEPS, message: `step ${step}` };
    const report = await reportProgress({ ...owned, progress });
    if (report?.directive?.cancelRequested) {
      const error = { code: status.CANCELLED, message: "stopped as asked" };
      await failOperation({ ...owned, error });
      return;
    }
  }
  const greeting = `hello ${text(lease.request, "name")}`;
  await completeOperation({ ...owned, response: packed({ greeting }) });
}

let worked = 0;
while (!(values.once && worked > 0)) {
  // At most one lease; none if no operation became ready within the wait.
  const answer = await leaseOperations({
    queue: "hello",
    worker: "node",
    waitDuration: { seconds: 20 },
  });
  for (const lease of answer?.leases ?? []) {
    await greet(lease);
    worked++;
  }
}
workers.close();
