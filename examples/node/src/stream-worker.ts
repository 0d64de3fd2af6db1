// Works on queue `hello` over one stream, several operations at once, until SIGTERM:
// stream-worker [--queue QUEUE] [--slots N] [--pause SECONDS] [SERVER].

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { credentials, status, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import type { Lease__Output } from "./gen/longhaul/v1/Lease.js";
import type { ServeQueueRequest } from "./gen/longhaul/v1/ServeQueueRequest.js";
import type {
  ServeQueueResponse__Output,
  _longhaul_v1_ServeQueueResponse_Outcome__Output as Outcome,
} from "./gen/longhaul/v1/ServeQueueResponse.js";
import { packed, text, v1 } from "./longhaul.js";

const STEPS = 5;
const LEASE_MS = 30_000;
// Leases outlive a stream by 3 s, which is enough for several reconnects.
const RECONNECT_MS = 300;
// A message with this many bytes is full: one more call, with a response of 1 MiB, stays below the limit of 3 MiB.
const FULL_BYTES = 1 << 20;
const REFUSED = [
  status.INVALID_ARGUMENT,
  status.PERMISSION_DENIED,
  status.UNAUTHENTICATED,
  status.UNIMPLEMENTED,
];
// A refusal with one of these codes means that the lease has ended.
const GONE = [status.FAILED_PRECONDITION, status.NOT_FOUND];

type Report = (fraction: number, message: string) => void;

/** Does the work of one operation; throws where it is to stop. */
async function greet(lease: Lease__Output, pauseMs: number, stop: AbortSignal, report: Report) {
  for (let step = 1; step <= STEPS; step++) {
    await sleep(pauseMs, undefined, { signal: stop });
    report(step / STEPS, `step ${step}`);
  }
  return packed({ greeting: `hello ${text(lease.request, "name")}` });
}

type Stream = ClientDuplexStream<ServeQueueRequest, ServeQueueResponse__Output>;
type List = "reports" | "completions" | "failures";
type Call = { name: string; leaseToken: string };
/** What is said, by the list of the request and the lease. */
type Said = Map<string, { list: List; call: Call }>;

/** An operation that this worker holds. */
class Job {
  readonly owned: Call;
  readonly stop = new AbortController();
  cancelRequested: boolean;
  begun = false;
  /** The final call, until the server has acknowledged it. */
  last?: Call;

  constructor(readonly lease: Lease__Output) {
    this.owned = { name: lease.operation, leaseToken: lease.leaseToken };
    this.cancelRequested = lease.cancelRequested;
  }
}

/** The state that outlives a stream: held operations and unacknowledged calls. */
class Worker {
  private jobs = new Map<string, Job>();
  /** A newer report takes an older one's place. */
  private unsaid: Said = new Map();
  /** What was said over this stream, by its sequence. */
  private sent = new Map<number, Said>();
  /** Aborted once there is something to say. */
  private news = new AbortController();
  private seen = 0;
  private heartbeatMs = 0;
  private draining = false;
  private stopping = false;

  constructor(
    private readonly queue: string,
    private readonly slots: number,
    private readonly pauseMs: number,
  ) {}

  /** Serves, one stream after another, until it is stopped. */
  async run(workers: InstanceType<typeof v1.Workers>) {
    for (;;) {
      try {
        await this.serve(workers.serveQueue());
        if (this.stopping) return;
      } catch (error) {
        const { code, details } = error as ServiceError;
        if (code === undefined || REFUSED.includes(code)) throw error;
        console.log(`broken: ${details}`);
      }
      if (this.stopping && this.jobs.size === 0) return;
      await sleep(RECONNECT_MS);
    }
  }

  /** Stops all work; closing this side of the stream releases unfinished operations. */
  stop() {
    this.stopping = true;
    for (const job of this.jobs.values()) job.stop.abort();
    this.news.abort();
  }

  /** Serves over one stream, to its end. */
  private async serve(stream: Stream) {
    [this.seen, this.heartbeatMs, this.draining] = [0, LEASE_MS / 3, false];
    this.sent.clear();
    const ended = new AbortController();
    stream.on("error", () => {}); // Whoever reads gets it too.
    const writing = this.write(stream, ended.signal);
    // A server that sends nothing for this long is gone.
    const silence = setTimeout(() => stream.cancel(), LEASE_MS);
    try {
      for await (const response of stream as AsyncIterable<ServeQueueResponse__Output>) {
        silence.refresh();
        this.takeIn(response);
      }
    } finally {
      clearTimeout(silence);
      stream.cancel();
      ended.abort();
      this.news.abort();
      await writing;
      // The server may have handled it. A repeat does no harm.
      const again = [...this.sent.values()].flatMap((said) => [...said]);
      this.unsaid = new Map([...again, ...this.unsaid]);
    }
  }

  /** Says what there is to say, or just that somebody is there. */
  private async write(stream: Stream, ended: AbortSignal) {
    const over = new Promise<void>((resolve) => ended.addEventListener("abort", () => resolve()));
    const held = [...this.jobs.values()].map((job) => job.owned);
    const leaseDuration = { seconds: LEASE_MS / 1000 };
    const hello = { queue: this.queue, worker: "node", leaseDuration, held };
    let request: ServeQueueRequest = { hello, slots: this.slots };
    for (let sequence = 1; ; sequence++) {
      this.news = new AbortController();
      Object.assign(request, { sequence, seenSequence: this.seen });
      this.sent.set(sequence, this.gather(request));
      const unbegun = [...this.jobs.values()].filter((job) => !job.begun && this.seen > 0);
      const written = new Promise<void>((resolve) => stream.write(request, () => resolve()));
      await Promise.race([written, over]);
      if (ended.aborted) return;
      // Only now: the server would lease an operation that was never seen to another worker.
      for (const job of unbegun) void this.work(job);
      const closing = this.stopping || (this.draining && this.jobs.size === 0);
      if (this.unsaid.size === 0) {
        if (closing) break;
        const { signal } = this.news;
        await sleep(this.heartbeatMs / 2, undefined, { signal }).catch(() => {});
      }
      request = {};
    }
    stream.end();
  }

  /** Moves what is to be said into a message, as far as it has room. */
  private gather(request: ServeQueueRequest): Said {
    const { requestSerialize } = v1.Workers.service.ServeQueue;
    const said: Said = new Map();
    let bytes = requestSerialize(request).length;
    for (const [key, { list, call }] of this.unsaid) {
      if (bytes >= FULL_BYTES) break;
      (request[list] ??= []).push(call);
      bytes += requestSerialize({ [list]: [call] }).length;
      said.set(key, { list, call });
      this.unsaid.delete(key);
    }
    return said;
  }

  /** Does what the server says. */
  private takeIn(response: ServeQueueResponse__Output) {
    this.seen = response.sequence;
    if (response.welcome) {
      console.log("serving");
      const { seconds, nanos } = response.welcome.heartbeatInterval!;
      this.heartbeatMs = 1000 * seconds + nanos / 1e6;
      response.welcome.lost.forEach((name) => this.lose(name));
    }
    response.outcomes.forEach((outcome) => this.hear(outcome));
    for (const [sequence, said] of this.sent) {
      if (sequence > response.acknowledgedSequence) break;
      this.sent.delete(sequence);
      for (const { call } of said.values()) {
        if (this.jobs.get(call.name)?.last === call) this.jobs.delete(call.name);
      }
    }
    for (const lease of response.leases) {
      this.lose(lease.operation);
      this.jobs.set(lease.operation, new Job(lease));
    }
    for (const { name, directive } of response.signals) {
      const job = this.jobs.get(name);
      if (directive?.cancelRequested && job) {
        job.cancelRequested = true;
        job.stop.abort();
      }
    }
    this.draining ||= response.drainDuration !== null;
    if (response.welcome || response.leases.length > 0 || this.draining) this.news.abort();
  }

  /** Goes on after a refusal, or the loss of a lease. */
  private hear({ name, sequence, call, error }: Outcome) {
    const job = this.jobs.get(name);
    if (!job || !error) return;
    console.log(`${name}: ${error.message}`);
    if (sequence === 0) {
      this.lose(name);
    } else if (job.last && call !== "REPORT" && !GONE.includes(error.code)) {
      // For example because the response is too large. The lease continues until another call ends it.
      this.end(job, "failures", { error: { code: status.INTERNAL, message: error.message } });
    }
  }

  /** Works on what was leased, and says how that ended. */
  private async work(job: Job) {
    console.log(`${job.owned.name}: attempt ${job.lease.attempt}`);
    job.begun = true;
    if (job.cancelRequested || this.stopping) job.stop.abort();
    const report: Report = (fraction, message) =>
      this.say("reports", { ...job.owned, progress: { fraction, message } } as Call);
    try {
      const response = await greet(job.lease, this.pauseMs, job.stop.signal, report);
      console.log(`${job.owned.name}: done`);
      this.end(job, "completions", { response });
    } catch (error) {
      if (!job.stop.signal.aborted) {
        this.end(job, "failures", { error: { code: status.UNKNOWN, message: String(error) } });
      } else if (job.cancelRequested) {
        const stopped = { code: status.CANCELLED, message: "stopped as asked" };
        this.end(job, "failures", { error: stopped });
      }
    }
  }

  /** Ends an operation, unless it is no more this worker's. */
  private end(job: Job, list: List, how: object) {
    if (this.jobs.get(job.owned.name) !== job) return;
    job.last = { ...job.owned, ...how };
    this.say(list, job.last);
  }

  /** Has it said with the next message. */
  private say(list: List, call: Call) {
    this.unsaid.set(`${list} ${call.leaseToken}`, { list, call });
    this.news.abort();
  }

  /** Stops work on an operation that another worker has; for an ended one the repeated call tells. */
  private lose(name: string) {
    const job = this.jobs.get(name);
    if (job && !job.last) {
      this.jobs.delete(name);
      job.stop.abort();
    }
  }
}

const { values, positionals } = parseArgs({
  options: {
    queue: { type: "string", default: "hello" },
    slots: { type: "string", default: "10" },
    pause: { type: "string", default: "0.3" },
  },
  allowPositionals: true,
});
const [server = "127.0.0.1:50051"] = positionals;
const workers = new v1.Workers(server, credentials.createInsecure(), {
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000,
});
const worker = new Worker(values.queue!, Number(values.slots), 1000 * Number(values.pause));
// A second signal ends the process at once.
process.once("SIGTERM", () => worker.stop());
await worker.run(workers);
workers.close();
