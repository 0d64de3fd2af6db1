//! Every bound and default in one place. `docs/limits.md` shows the same table; a test holds the two together.

use std::time::Duration;

/// Operations on a page if the caller sets no page size.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// Largest number of operations on a page; larger page sizes are coerced.
pub const MAX_PAGE_SIZE: usize = 1_000;
/// Operations that one page reads from its index, roughly; a page may be short, even empty (AIP-158).
pub const MAX_LIST_READS: usize = 5_000;
/// Entries of an index in another order than the list that a page sorts; where there are more, it reads `list`.
pub const MAX_LIST_SORTED: usize = 5_000;
/// Most partitions that a list names as unreachable.
pub const MAX_UNREACHABLE: usize = 100;
/// Parents that one call counts together.
pub const MAX_STATS_PARENTS: usize = 1_000;
/// Queues that one call counts.
pub const MAX_STATS_QUEUES: usize = 1_000;
/// Expired operations that the janitor has not removed yet, and that one call of `GetOperationStats` leaves out; beyond, they count.
pub const MAX_STATS_EXPIRED: usize = 10_000;
/// Bytes of payloads kept beside their records that one page loads for its filter, and one operation more.
pub const MAX_LIST_LOADED_BYTES: usize = 16 << 20;
/// Largest reply in bytes; clients accept 4 MiB by default.
pub const MAX_REPLY_BYTES: usize = 3 << 20;
/// Largest message in bytes that the server accepts.
pub const MAX_MESSAGE_BYTES: usize = 9 << 20;
/// Largest JSON body in bytes that the server accepts; base64 makes more of the same bytes.
pub const MAX_BODY_BYTES: usize = 12 << 20;
/// How long a server uses accepted credentials before it reads them again; a hint says sooner that a token was changed or revoked.
pub const CREDENTIAL_REREAD: Duration = Duration::from_secs(5);
/// Most accepted credentials that a server keeps in memory.
pub const MAX_KNOWN_CREDENTIALS: usize = 10_000;
/// Largest JWT in bytes.
pub const MAX_JWT_BYTES: usize = 8 << 10;
/// Largest set of keys of an issuer of JWTs in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 << 10;
/// How often a server reads the keys of the issuers of JWTs again.
pub const KEYS_REREAD: Duration = Duration::from_mins(5);
/// How long an issuer of JWTs may take to answer with its keys.
pub const KEYS_TIME: Duration = Duration::from_secs(5);
/// The shortest time between two readings of the keys of an issuer, however many tokens name a key that is not known.
pub const KEYS_PAUSE: Duration = Duration::from_secs(30);
/// How long the keys of an issuer are used if they cannot be read again.
pub const KEYS_KEPT: Duration = Duration::from_hours(24);
/// Most secrets that a token has at a time; a rotation ends the oldest one.
pub const MAX_TOKEN_SECRETS: usize = 4;
/// Most grants of a token.
pub const MAX_TOKEN_GRANTS: usize = 100;
/// Lifetime of a link if the caller sets none.
pub const DEFAULT_LINK_LIFETIME: Duration = Duration::from_hours(1);
/// Longest lifetime of a link.
pub const MAX_LINK_LIFETIME: Duration = Duration::from_hours(720);
/// How long a page token is valid (AIP-158).
pub const PAGE_TOKEN_LIFETIME: Duration = Duration::from_hours(72);

/// Largest filter in bytes.
pub const MAX_FILTER_BYTES: usize = 4 << 10;
/// Largest number of conditions in a filter; each value of a group counts.
pub const MAX_FILTER_TERMS: usize = 64;
/// Deepest nesting of parentheses in a filter.
pub const MAX_FILTER_DEPTH: usize = 16;
/// Largest number of names in a path of a filter; `metadata.owner.name` has three.
pub const MAX_FILTER_PATH: usize = 16;

/// Longest `WaitOperation`; longer waits are coerced and return the operation unfinished.
pub const MAX_WAIT: Duration = Duration::from_mins(5);
/// Longest `Prefer: wait` over HTTP, and longest `WaitOperation` there; proxies end what is silent for longer.
pub const MAX_HTTP_WAIT: Duration = Duration::from_mins(1);
/// How long before its deadline a waiting call returns.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

/// Duration of a lease if the worker sets none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// The shortest lease; shorter ones are coerced.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// The longest lease; longer ones are coerced.
pub const MAX_LEASE: Duration = Duration::from_hours(24);
/// How long a worker may wait for work in one call; longer waits are coerced.
pub const MAX_LEASE_WAIT: Duration = Duration::from_mins(1);
/// Leases in one reply; larger requests are coerced.
pub const MAX_LEASES: usize = 100;
/// Renewals in one request.
pub const MAX_RENEWALS: usize = 1_000;
/// Leases in a row that no worker saw and that do not count as attempts.
pub const MAX_UNSEEN_LEASES: u32 = 3;
/// After an outage or standstill of the store or the only server, leases are not lost for their duration, but at most this long.
pub const RETURN_GRACE: Duration = Duration::from_secs(30);
/// The same, at least this long even for shorter leases, so that workers have time to reconnect.
pub const MIN_RETURN_GRACE: Duration = RECONNECT_PAUSE.saturating_mul(5);
/// Longest pause, approximately, before a worker that holds leases tries to reconnect.
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// A watch or a wait ends with STORE_UNAVAILABLE if the store has not answered for this long.
pub const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// Slots of one worker stream; more are refused. The worker SDK coerces into 1 to this.
pub const MAX_SLOTS: i32 = 10_000;
/// Leases in a Hello.
pub const MAX_HELD: usize = 10_000;
/// How long the leases of a broken stream last if the worker sets no time; at most the duration of a lease, longer times
/// are coerced.
pub const DEFAULT_RECONNECT_GRACE: Duration = Duration::from_secs(3);
/// How long calls and streams may take to finish when the server drains.
pub const DRAIN: Duration = Duration::from_secs(8);
/// How long the store may then take to close. A server ends within both times, with connections open or not.
pub const CLOSING: Duration = Duration::from_secs(2);

/// Largest number of connections, if the limit of open files allows as many.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Calls in flight of one connection.
pub const MAX_STREAMS: u32 = 2_000;
/// Bytes of requests and responses in flight of one connection; each call also counts a fixed share.
pub const MAX_CONNECTION_BYTES: usize = 64 << 20;
/// The same for all connections together; beyond it the connection that holds most is closed.
pub const MAX_BYTES_IN_FLIGHT: usize = 256 << 20;
/// Calls of one connection that read whole operations at the same time; others wait.
pub const READS_OF_CONNECTION: usize = 16;
/// The same for all connections together.
pub const READS_AT_ONCE: usize = 64;
/// A new connection that sends neither a request nor the HTTP/2 preface within this time is closed.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long a request may take to arrive.
pub const REQUEST_TIME: Duration = Duration::from_mins(1);
/// A connection that reads none of the data sent to it for this long is closed.
pub const UNREAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of the path and the headers of a request over HTTP/2.
pub const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// The same over HTTP/1.1.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// Streams that a connection may reset before the server has looked at them; a client that resets more is disconnected.
pub const MAX_RESET_STREAMS: usize = 100;
/// Calls that a client may give up within ten seconds before they are answered; a client that gives up more is disconnected.
pub const MAX_ABANDONED: usize = 20_000;
/// How long a connection lasts if the settings say nothing, a tenth more or less; then its client is asked to open another.
pub const DEFAULT_CONNECTION_AGE: Duration = Duration::from_hours(1);
/// How long a connection without calls stays open if the settings say nothing.
pub const DEFAULT_CONNECTION_IDLE: Duration = Duration::from_mins(30);
/// How long the calls of an old connection may take to end; the longest wait and a little more.
pub const CONNECTION_GRACE: Duration = Duration::from_secs(330);
/// Calls that write and run at the same time, at most; twice as many for calls of workers. The limit falls while such calls
/// take longer than `WRITE_TIME`.
pub const MAX_WRITES: usize = 4_096;
/// The least that the limit of calls that write falls to.
pub const MIN_WRITES: usize = 64;
/// How long calls that write may take on average before more of them are refused.
pub const WRITE_TIME: Duration = Duration::from_secs(1);
/// Tenants that a server counts one by one; others share one place.
pub const MAX_KNOWN_TENANTS: usize = 10_000;
/// How long a read of a tenant at its limit waits at most.
pub const SLOWEST_READ: Duration = Duration::from_secs(5);
/// How often the stored operations of tenants are counted, if they are limited.
pub const STORED_RECOUNT: Duration = Duration::from_secs(5);
/// A bulk rerun whose tenant is at its limits leaves the starts to callers, but for one in this time.
pub const BULK_RERUN_TURN: Duration = Duration::from_secs(10);
/// Counters of parents that are read to count them.
pub const MAX_COUNTED_PARENTS: usize = 100_000;
/// How often the files of the certificates are read again.
pub const CERTIFICATE_REREAD: Duration = Duration::from_secs(5);

/// Reports of progress of one operation within this time become one commit.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// A lease is marked as stalled after this long without progress.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_mins(5);

/// Starts in one batch.
pub const MAX_BATCH: usize = 100;
/// Bytes of all starts in a batch.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// Bytes of an operation's full name.
pub const MAX_NAME_BYTES: usize = 512;
/// Characters of an operation's id.
pub const MAX_ID_LENGTH: usize = 63;
/// Characters of a request id.
pub const MAX_REQUEST_ID_LENGTH: usize = 128;
/// Bytes of the name of a queue, a method or a worker.
pub const MAX_LABEL_NAME_BYTES: usize = 128;
/// Bytes of any other text.
pub const MAX_TEXT_BYTES: usize = 4 << 10;
/// Bytes of a label's value.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// Labels of one operation.
pub const MAX_LABELS: usize = 64;

/// Bytes of a request or a response.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Bytes of metadata.
pub const MAX_METADATA_BYTES: usize = 64 << 10;
/// Bytes of a checkpoint or a resume input.
pub const MAX_CHECKPOINT_BYTES: usize = 256 << 10;
/// Bytes of an error with its details.
pub const MAX_ERROR_BYTES: usize = 16 << 10;
/// Depth of nested messages, including those in an `Any`; deeper ones are treated as unknown.
pub const MAX_MESSAGE_DEPTH: usize = 100;
/// Bytes of one descriptor set.
pub const MAX_DESCRIPTOR_SET_BYTES: usize = 4 << 20;
/// Bytes of one uploaded type set.
pub const MAX_TYPE_SET_BYTES: usize = 1 << 20;
/// Files of one uploaded type set.
pub const MAX_TYPE_SET_FILES: usize = 1_000;
/// Depth of messages that are defined within messages, in an uploaded type set.
pub const MAX_TYPE_SET_DEPTH: usize = 16;
/// Type sets of one parent.
pub const MAX_TYPE_SETS: usize = 50;
/// Bytes of all type sets of one parent.
pub const MAX_TYPE_SETS_BYTES: usize = 4 << 20;
/// Pairs of collection and id in the parent of a type set.
pub const MAX_TYPE_PARENT_PAIRS: usize = 8;
/// Parents whose types a server keeps in memory.
pub const MAX_KNOWN_PARENTS: usize = 1_000;
/// Bytes of the type sets that a server keeps in memory as types, roughly; the types take several times as much.
pub const MAX_KNOWN_TYPES_BYTES: usize = 32 << 20;
/// A server that received no hint reads again after this long whether type sets have changed.
pub const TYPES_REREAD: Duration = Duration::from_millis(500);
/// Callbacks of one operation.
pub const MAX_CALLBACKS: usize = 10;
/// Bytes of the URI of a callback or a webhook endpoint.
pub const MAX_CALLBACK_URI_BYTES: usize = 2 << 10;
/// HTTP headers of a callback or a webhook endpoint.
pub const MAX_CALLBACK_HEADERS: usize = 16;
/// Bytes of these headers together.
pub const MAX_CALLBACK_HEADER_BYTES: usize = 4 << 10;
/// Webhook endpoints of one parent, approximately.
pub const MAX_ENDPOINTS: usize = 100;
/// Secrets of one webhook endpoint that deliveries are signed with at the same time.
pub const MAX_ENDPOINT_SECRETS: usize = 5;
/// How long deliveries are signed with a former secret of a webhook endpoint too, if the rotation sets no time.
pub const DEFAULT_SECRET_OVERLAP: Duration = Duration::from_hours(24);
/// The longest such time.
pub const MAX_SECRET_OVERLAP: Duration = Duration::from_hours(720);
/// A webhook endpoint is suspended if every delivery has failed for this long.
pub const ENDPOINT_PATIENCE: Duration = Duration::from_hours(120);

/// Bytes of the JSON response of a program of `longhaul work`.
pub const MAX_PROGRAM_RESPONSE_BYTES: usize = 2 << 20;
/// Bytes that are kept of a line on standard error of a program of `longhaul work`.
pub const MAX_PROGRAM_LINE_BYTES: usize = 4 << 10;
/// A payload with more bytes is stored beside its record.
pub const MAX_INLINE_BYTES: usize = 1 << 10;

/// Attempts that a record keeps.
pub const MAX_ATTEMPTS_KEPT: usize = 20;
/// Ended leases that a record keeps, to answer repeated calls.
pub const MAX_ENDED_LEASES: usize = 3;
/// Partial errors that a record keeps.
pub const MAX_PARTIAL_ERRORS: usize = 64;
/// Bytes of all partial errors of a record.
pub const MAX_PARTIAL_ERROR_BYTES: usize = 16 << 10;
/// Related resources that a record keeps.
pub const MAX_RELATED_RESOURCES: usize = 64;

/// How long a finished operation is kept.
pub const DEFAULT_TTL: Duration = Duration::from_hours(720);
/// The shortest time that a finished operation is kept; shorter ones are coerced.
pub const MIN_TTL: Duration = Duration::from_hours(1);
/// How long the name of an expired or deleted operation is remembered.
pub const TOMBSTONE: Duration = Duration::from_hours(24);

/// Attempts if the policy sets no number.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
/// Largest number of attempts.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// The first pause between attempts.
pub const DEFAULT_INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause between attempts.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_mins(5);
/// Factor from one pause to the next.
pub const DEFAULT_BACKOFF_MULTIPLIER: f64 = 2.0;
/// Largest factor; less than 1 is refused, too.
pub const MAX_BACKOFF_MULTIPLIER: f64 = 1_000.0;
/// Fraction by which a pause varies, to both sides.
pub const BACKOFF_JITTER: f64 = 0.2;

/// How long a worker may take to stop after a cancel.
pub const DEFAULT_CANCEL_GRACE: Duration = Duration::from_mins(1);
/// A watch without changes sends a heartbeat after this long.
pub const DEFAULT_WATCH_HEARTBEAT: Duration = Duration::from_secs(30);
/// Shortest heartbeat interval of a watch; shorter ones are coerced.
pub const MIN_WATCH_HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest heartbeat interval and longest `min_interval` of a watch; longer ones are coerced.
pub const MAX_WATCH_INTERVAL: Duration = Duration::from_mins(5);
/// Distinct pairs of parent and filter that the watches of one server may have.
pub const MAX_WATCHED_SETS: usize = 1_000;
/// Changes that a server keeps for the watches of one pair of parent and filter; a watch that is further behind receives RESYNC.
pub const MAX_SET_CHANGES: usize = 4_096;
/// Bytes of these changes, approximately.
pub const MAX_SET_BYTES: usize = 4 << 20;
/// The same for all watches of a server, which share it evenly.
pub const MAX_ALL_SET_BYTES: usize = 64 << 20;
/// Hints that a server keeps, so that watches resume without a snapshot.
pub const MAX_HINTS_KEPT: usize = 65_536;
/// Pages of snapshots that a server reads for watches at the same time.
pub const SNAPSHOT_READS_AT_ONCE: usize = 4;
/// Operations on a page of a snapshot.
pub const SNAPSHOT_PAGE_SIZE: usize = 100;
/// Bytes of a page of a snapshot, which a watch keeps until it is sent, and one operation more.
pub const MAX_SNAPSHOT_PAGE_BYTES: usize = 256 << 10;

/// Queues that have settings of their own.
pub const MAX_QUEUE_SETTINGS: usize = 1_000;
/// Queues that lists of queues know; if there are more, some are left out.
pub const MAX_QUEUES_LISTED: usize = 10_000;
/// Smallest limit of leases in a second.
pub const MIN_LEASE_RATE: f64 = 0.001;
/// Largest limit of leases in a second.
pub const MAX_LEASE_RATE: f64 = 1_000_000.0;
/// Queues of which a server counts leases; if there are more, the others are counted together.
pub const MAX_ACTIVE_QUEUES: usize = 1_000;
/// Queues that have a name in the metrics; all others are counted as `other`.
pub const MAX_METRIC_QUEUES: usize = 100;
/// Workers without a stream that a server remembers.
pub const MAX_UNARY_WORKERS: usize = 10_000;
/// Leases of workers without a stream that a server remembers for the list of workers.
pub const MAX_UNARY_HELD: usize = 100_000;
/// A worker without a stream that made no call for this long and holds nothing is forgotten.
pub const UNARY_WORKER_GONE: Duration = Duration::from_mins(1);
/// Workers of which a server tells other servers.
pub const MAX_ROSTER_WORKERS: usize = 1_000;
/// Bytes of what a server tells other servers of its workers, approximately.
pub const MAX_ROSTER_BYTES: usize = 256 << 10;
/// Drained workers of a queue that are remembered.
pub const MAX_DRAINED_WORKERS: usize = 100;
/// How long it is remembered that a worker is drained.
pub const DRAIN_REMEMBERED: Duration = Duration::from_hours(24);
/// How long a worker that an operator has drained may take to finish, as it is told.
pub const OPERATOR_DRAIN: Duration = Duration::from_hours(24);
/// A server that received no hint reads again after this long whether settings of queues have changed.
pub const QUEUES_REREAD: Duration = Duration::from_millis(400);

/// Attempts of a delivery that its record keeps.
pub const MAX_DELIVERY_ATTEMPTS_KEPT: usize = 10;
/// Fraction by which the pause before another attempt is longer, at most.
pub const DELIVERY_JITTER: f64 = 0.2;
/// Longest pause that a receiver can ask for with Retry-After; longer ones are coerced.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// How long an attempt may take, by default.
pub const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// A delivery that no attempt reached this long after its event or its replay is given up.
pub const MAX_DELIVERY_AGE: Duration = Duration::from_hours(120);
/// How long a delivery is kept once it has ended; one of progress that was accepted is not kept.
pub const DELIVERY_KEPT: Duration = Duration::from_hours(72);
/// Bytes of a receiver's reply that are kept.
pub const MAX_DELIVERY_REPLY_BYTES: usize = 1 << 10;
/// Attempts to one receiver at the same time.
pub const MAX_DELIVERIES_TO_ONE: usize = 16;
/// Attempts to all receivers at the same time.
pub const MAX_DELIVERIES_AT_ONCE: usize = 1_024;
/// Deliveries to one receiver that a server has claimed, those that wait for an attempt included.
pub const MAX_HELD_FOR_ONE: usize = 256;
/// Claimed deliveries that wait for an attempt, to all receivers. Beyond that, none waits.
pub const MAX_HELD_DELIVERIES: usize = 2_048;
/// Test events of webhook endpoints that a server sends at the same time; more are refused.
pub const MAX_TESTS_AT_ONCE: usize = 16;
/// Idle connections to one receiver that are kept.
pub const MAX_IDLE_RECEIVERS: usize = MAX_DELIVERIES_TO_ONE;
/// Attempts to one receiver that fail in a row before it is only probed.
pub const FAILURES_BEFORE_PROBES: u32 = 5;
/// The first pause between probes of a receiver; it doubles with each that fails.
pub const MIN_PROBE_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between probes of a receiver.
pub const MAX_PROBE_PAUSE: Duration = Duration::from_mins(5);
/// Receivers of which a server remembers when the next delivery is due; of more, it looks now and then.
pub const MAX_KNOWN_RECEIVERS: usize = 10_000;

/// Priorities range from minus this to this.
pub const MAX_PRIORITY: i32 = 100;
/// Waiting this long counts as one step of priority.
pub const AGING_INTERVAL: Duration = Duration::from_mins(1);
/// Largest limit of the running operations of a queue.
pub const MAX_RUNNING_LIMIT: u32 = 10_000;
/// Largest limit of a concurrency key.
pub const MAX_CONCURRENCY: i32 = 1_000;
/// Bytes of a concurrency key.
pub const MAX_CONCURRENCY_KEY_BYTES: usize = 256;
/// Longer durations are refused as mistakes.
pub const MAX_DURATION: Duration = Duration::from_hours(87840);

/// Runs of one job that are not over; further ticks are skipped, and further runs refused.
pub const MAX_JOB_RUNS: usize = 100;
/// Ticks of one job that are decided in one commit.
pub const MAX_TICKS_AT_ONCE: usize = 100;
/// Runs of a backfill at the same time, where the overlap policy is ALLOW.
pub const MAX_BACKFILLS_AT_ONCE: usize = 10;
/// Ticks of one backfill.
pub const MAX_BACKFILL_TICKS: usize = 10_000;
/// Shortest interval of a schedule.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest jitter of a schedule.
pub const MAX_JITTER: Duration = Duration::from_hours(24);
/// Ticks that are late by no more than this are run, if a job sets no window.
pub const DEFAULT_CATCH_UP_WINDOW: Duration = Duration::from_mins(1);
/// Shortest window in which late ticks are run; shorter ones are coerced.
pub const MIN_CATCH_UP_WINDOW: Duration = Duration::from_secs(10);
/// Executions of a job that are kept if it sets no limit.
pub const DEFAULT_HISTORY_LIMIT: u32 = 100;
/// Largest number of executions of a job that are kept.
pub const MAX_HISTORY_LIMIT: u32 = 1_000;
/// How long the deletion of a job is remembered for callers that repeat it with its request id.
pub const DELETION_MEMORY: Duration = Duration::from_hours(1);
/// Operations that one bulk rerun starts again, and as many if it sets no number.
pub const MAX_BULK_RERUNS: i64 = 100_000;

#[cfg(test)]
mod tests {
    #[test]
    fn the_documented_table_is_this_file() {
        let page = include_str!("../docs/limits.md");
        let mut documentation = Vec::new();
        let mut rows = Vec::new();
        for line in include_str!("limits.rs").lines() {
            if let Some(text) = line.strip_prefix("/// ") {
                documentation.push(text);
            } else if let Some((name, value)) =
                line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": "))
            {
                let value =
                    value.split_once(" = ").map_or("", |(_, value)| value.trim_end_matches(';'));
                let meaning = documentation.join(" ");
                rows.push(format!("| `{name}` | `{value}` | {} |", meaning.trim_end_matches('.')));
                documentation.clear();
            }
        }
        let documented: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(documented, rows, "docs/limits.md is out of date");
    }
}
