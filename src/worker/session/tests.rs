use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Code;

use super::*;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;
use crate::proto::longhaul::v1::serve_queue_response::{Outcome, Signal, Welcome};
use crate::worker::stop::Stop;

/// A session with a clock that the test moves, and the server's side of its stream.
struct Fixture {
    session: Session,
    now: Duration,
    sent: i64,
    begun: Vec<NewJob>,
}

impl Fixture {
    fn new(slots: usize) -> Self {
        let terms = Terms {
            queue: "q".to_owned(),
            worker: "w".to_owned(),
            process: None,
            lease: Duration::from_secs(30),
            grace: None,
            slots,
        };
        let mut fixture =
            Self { session: Session::new(terms), now: Duration::ZERO, sent: 0, begun: Vec::new() };
        fixture.open(&[]);
        fixture
    }

    /// Opens a new stream and returns the first request.
    fn open(&mut self, lost: &[&str]) -> pb::ServeQueueRequest {
        self.session.open(self.now);
        self.sent = 0;
        let first = self.next().expect("Hello");
        let lost = lost.iter().map(|name| (*name).to_owned()).collect();
        let welcome = Welcome {
            heartbeat_interval: prost_types::Duration::try_from(Duration::from_secs(10)).ok(),
            lost,
        };
        self.read(pb::ServeQueueResponse { welcome: Some(welcome), ..Default::default() });
        first
    }

    fn next(&mut self) -> Option<pb::ServeQueueRequest> {
        match self.session.next(self.now) {
            Next::Send(request, starts) => {
                self.begun.extend(starts);
                Some(*request)
            }
            Next::Close => panic!("closed"),
            Next::Nothing => None,
        }
    }

    fn read(&mut self, response: pb::ServeQueueResponse) {
        self.sent += 1;
        let response = pb::ServeQueueResponse { sequence: self.sent, ..response };
        self.session.read(response, self.now).expect("the next message");
    }

    fn acknowledge(&mut self, sequence: i64) {
        self.read(pb::ServeQueueResponse { acknowledged_sequence: sequence, ..Default::default() });
    }

    fn lease(&mut self, names: &[&str]) {
        let lease = |name: &&str| pb::Lease {
            operation: (*name).to_owned(),
            lease_token: format!("token of {name}"),
            ..Default::default()
        };
        let leases = names.iter().map(lease).collect();
        self.read(pb::ServeQueueResponse { leases, ..Default::default() });
    }

    /// Leases an operation, starts its job, and returns the id.
    fn begin(&mut self, name: &str) -> u64 {
        self.lease(&[name]);
        let sequence = self.next().expect("seen").sequence;
        self.acknowledge(sequence);
        self.begun.last().expect("begun").job.id
    }

    fn refuse(&mut self, request: &pb::ServeQueueRequest, call: Kind, name: &str, code: Code) {
        let error =
            rpc::Status { code: code as i32, message: "no".to_owned(), details: Vec::new() };
        let outcome = Outcome {
            sequence: request.sequence,
            call: call.into(),
            name: name.to_owned(),
            error: Some(error),
            ..Default::default()
        };
        self.read(pb::ServeQueueResponse {
            acknowledged_sequence: request.sequence,
            outcomes: vec![outcome],
            ..Default::default()
        });
    }

    fn complete(&mut self, id: u64) {
        self.session.finish(id, End::Response(None));
    }

    fn job(&self, id: u64) -> &Job {
        &self.begun.iter().find(|start| start.job.id == id).expect("begun").job
    }

    fn update(&mut self, id: u64, update: Update) {
        self.session.update(id, update, None, self.now);
    }
}

fn payload(bytes: usize) -> Any {
    Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![7; bytes].into() }
}

#[test]
fn hello_comes_first_and_once_with_the_slots() {
    let mut fixture = Fixture::new(4);
    let first = fixture.open(&[]);
    let hello = first.hello.expect("Hello");
    assert_eq!((&hello.queue[..], &hello.worker[..], first.sequence), ("q", "w", 1));
    assert_eq!(first.slots, Some(4));
    assert!(fixture.next().is_none(), "nothing else is to be sent");
    fixture.acknowledge(1);
    assert!(fixture.next().is_none(), "an acknowledgement asks for no answer");
}

#[test]
fn a_job_starts_after_the_server_is_told_that_its_lease_was_seen() {
    let mut fixture = Fixture::new(4);
    fixture.lease(&["a", "b"]);
    assert!(fixture.begun.is_empty());
    let seen = fixture.next().expect("a message without calls");
    assert_eq!((seen.sequence, seen.seen_sequence, seen.slots, seen.hello), (2, 2, None, None));
    assert_eq!(fixture.begun.len(), 2);
}

#[test]
fn one_message_carries_all_waiting_calls() {
    let mut fixture = Fixture::new(4);
    fixture.lease(&["a", "b", "c", "d", "e"]);
    fixture.next();
    let ids: Vec<u64> = fixture.begun.iter().map(|start| start.job.id).collect();
    fixture.update(ids[0], Update::Progress(0.1.into()));
    fixture.update(ids[0], Update::Progress(0.2.into()));
    fixture.complete(ids[1]);
    fixture.session.finish(ids[2], End::Stop(Stop::fail(Code::Internal, "oh")));
    fixture.session.finish(ids[3], End::Stop(Stop::release(Duration::ZERO)));
    fixture.session.finish(ids[4], End::Stop(Stop::suspend("lunch")));
    let sent = fixture.next().expect("all of it");
    assert_eq!(sent.reports.len(), 1, "the newest progress wins");
    assert_eq!(sent.reports[0].progress.as_ref().and_then(|progress| progress.fraction), Some(0.2));
    assert_eq!(sent.reports[0].report_number, 1);
    assert_eq!(sent.completions[0].lease_token, "token of b");
    assert_eq!(sent.failures[0].name, "c");
    assert_eq!(sent.releases[0].name, "d");
    assert_eq!(sent.suspensions[0].reason, "lunch");
    assert!(fixture.next().is_none());
}

#[test]
fn unacknowledged_calls_are_sent_again_unchanged_and_no_others() {
    let mut fixture = Fixture::new(4);
    let (a, b, c) = (fixture.begin("a"), fixture.begin("b"), fixture.begin("c"));
    fixture.complete(a);
    let handled = fixture.next().expect("a's end");
    fixture.update(b, Update::Checkpoint(payload(3)));
    let report = fixture.next().expect("b's report");
    fixture.complete(b);
    let end = fixture.next().expect("b's end");
    fixture.acknowledge(handled.sequence);
    fixture.session.disconnect();
    assert!(fixture.next().is_none(), "there is no stream");
    fixture.complete(c);
    let again = fixture.open(&[]);
    assert_eq!(again.sequence, 1);
    assert_eq!(again.seen_sequence, 0);
    assert_eq!(again.reports, report.reports);
    assert_eq!(again.completions[0], end.completions[0]);
    assert_eq!(again.completions.len(), 2, "c's end was sent while there was no stream");
    let mut held: Vec<String> =
        again.hello.expect("Hello").held.into_iter().map(|held| held.name).collect();
    held.sort();
    assert_eq!(held, ["b", "c"]);
    fixture.acknowledge(1);
    assert!(fixture.session.is_idle());
}

#[test]
fn a_lease_that_was_not_seen_is_neither_started_nor_held_after_a_disconnect() {
    let mut fixture = Fixture::new(4);
    fixture.lease(&["a"]);
    let again = fixture.open(&[]);
    assert!(fixture.begun.is_empty());
    assert!(again.hello.expect("Hello").held.is_empty());
    assert!(fixture.session.is_idle());
}

#[test]
fn a_handler_whose_lease_is_lost_is_told_and_takes_up_its_slot_until_it_ends() {
    let mut fixture = Fixture::new(4);
    let (lost, kept) = (fixture.begin("lost"), fixture.begin("kept"));
    fixture.open(&["lost", "unheard of"]);
    assert_eq!(fixture.job(lost).why(), Some(Cancelled::LeaseLost));
    assert_eq!(fixture.job(kept).why(), None);
    assert_eq!(fixture.next().expect("fewer slots").slots, Some(3));
    fixture.update(lost, Update::Progress(0.5.into()));
    fixture.complete(lost);
    let sent = fixture.next().expect("the slot is free");
    assert_eq!((sent.slots, sent.completions.len()), (Some(4), 0));
}

#[test]
fn an_end_committed_before_the_disconnect_is_repeated_although_hello_calls_it_lost() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    fixture.complete(id);
    fixture.next();
    let again = fixture.open(&["a"]);
    assert_eq!(again.completions.len(), 1);
    assert_eq!(fixture.job(id).why(), None);
    fixture.acknowledge(1);
    assert!(fixture.session.is_idle());
}

#[test]
fn a_newer_lease_of_an_operation_is_another_job() {
    let mut fixture = Fixture::new(4);
    let old = fixture.begin("a");
    let new = fixture.begin("a");
    assert_eq!(fixture.job(old).why(), Some(Cancelled::LeaseLost));
    fixture.complete(old);
    fixture.next();
    fixture.complete(new);
    let sent = fixture.next().expect("the end of the newer one");
    assert_eq!(sent.completions.len(), 1);
}

#[test]
fn a_message_has_at_most_a_hundred_calls_of_a_kind_and_three_mebibytes() {
    let mut fixture = Fixture::new(1_000);
    let names: Vec<String> = (0..250).map(|number| format!("operations/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fixture.lease(&names);
    fixture.next();
    let ids: Vec<u64> = fixture.begun.iter().map(|start| start.job.id).collect();
    for id in &ids {
        fixture.update(*id, Update::Metadata(payload(10)));
    }
    let reports: Vec<usize> =
        std::iter::from_fn(|| fixture.next().map(|sent| sent.reports.len())).collect();
    assert_eq!(reports, [100, 100, 50]);
    for id in &ids[..8] {
        fixture.session.finish(*id, End::Response(Some(payload(1 << 20))));
    }
    let mut ends = 0;
    while let Some(sent) = fixture.next() {
        assert!(prost::Message::encoded_len(&sent) <= 3 << 20);
        assert_eq!(sent.completions.len(), 2);
        ends += sent.completions.len();
    }
    assert_eq!(ends, 8);
}

#[test]
fn an_operation_has_one_report_in_flight_and_progress_alone_waits_for_the_interval() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    fixture.now = Duration::from_secs(1);
    fixture.update(id, Update::Progress(0.1.into()));
    let first = fixture.next().expect("at once");
    fixture.update(id, Update::Checkpoint(payload(1)));
    assert!(fixture.next().is_none(), "the first is not acknowledged");
    fixture.acknowledge(first.sequence);
    let second = fixture.next().expect("a checkpoint does not wait");
    assert_eq!((second.reports[0].report_number, second.reports[0].progress.is_some()), (2, false));
    fixture.acknowledge(second.sequence);
    fixture.update(id, Update::Progress(0.2.into()));
    assert!(fixture.next().is_none());
    assert_eq!(fixture.session.due(), fixture.now + PROGRESS_INTERVAL);
    fixture.now += PROGRESS_INTERVAL;
    assert!(fixture.session.tick(fixture.now));
    assert_eq!(fixture.next().expect("its time has come").reports[0].report_number, 3);
}

#[test]
fn an_end_carries_the_unsent_report() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    fixture.update(id, Update::Progress(1.0.into()));
    fixture.update(id, Update::Metadata(payload(1)));
    fixture.complete(id);
    let sent = fixture.next().expect("the end");
    assert!(sent.reports.is_empty());
    assert!(sent.completions[0].progress.is_some() && sent.completions[0].metadata.is_some());

    let id = fixture.begin("b");
    fixture.update(id, Update::PartialError(rpc::Status::default()));
    fixture.update(id, Update::Checkpoint(payload(2)));
    fixture.session.finish(id, End::Stop(Stop::fail(Code::Unavailable, "later")));
    let sent = fixture.next().expect("the end");
    assert_eq!(sent.reports[0].partial_errors.len(), 1, "a failure has no room for it");
    assert_eq!(sent.failures[0].checkpoint, Some(payload(2)));
}

#[test]
fn a_refused_end_becomes_internal_then_a_release_then_nothing() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    fixture.complete(id);
    let sent = fixture.next().expect("the end");
    fixture.refuse(&sent, Kind::Completion, "a", Code::InvalidArgument);
    let sent = fixture.next().expect("a failure instead");
    let error = sent.failures[0].error.clone().expect("an error");
    assert_eq!((error.code, error.message.contains("refused: no")), (13, true));
    fixture.refuse(&sent, Kind::Failure, "a", Code::InvalidArgument);
    let sent = fixture.next().expect("a release instead");
    assert!(sent.releases[0].delay.is_some());
    fixture.refuse(&sent, Kind::Release, "a", Code::InvalidArgument);
    assert!(fixture.next().is_none() && fixture.session.is_idle());
}

#[test]
fn an_end_too_large_for_any_message_is_never_sent() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    fixture.session.finish(id, End::Response(Some(payload(4 << 20))));
    let sent = fixture.next().expect("a failure");
    assert!(sent.completions.is_empty());
    assert_eq!(sent.failures[0].error.as_ref().map(|error| error.code), Some(13));
}

#[test]
fn an_awaited_report_resolves_to_its_result() {
    let mut fixture = Fixture::new(3);
    let (stored, refused, lost) = (fixture.begin("a"), fixture.begin("b"), fixture.begin("c"));
    let mut receipts = Vec::new();
    for id in [stored, refused, lost] {
        let (receipt, told) = oneshot::channel();
        fixture.session.update(id, Update::Checkpoint(payload(1)), Some(receipt), fixture.now);
        receipts.push(told);
    }
    let sent = fixture.next().expect("three reports");
    assert!(receipts[0].try_recv().is_err(), "not acknowledged yet");
    let outcome = |name: &str, code: Code| Outcome {
        sequence: sent.sequence,
        call: Kind::Report.into(),
        name: name.to_owned(),
        error: Some(rpc::Status { code: code as i32, ..Default::default() }),
        ..Default::default()
    };
    fixture.read(pb::ServeQueueResponse {
        acknowledged_sequence: sent.sequence,
        outcomes: vec![outcome("b", Code::InvalidArgument), outcome("c", Code::FailedPrecondition)],
        ..Default::default()
    });
    assert_eq!(receipts[0].try_recv(), Ok(Ok(())));
    assert!(matches!(receipts[1].try_recv(), Ok(Err(_))));
    assert_eq!(receipts[2].try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(fixture.job(refused).why(), None, "a refused report ends nothing");
    assert_eq!(fixture.job(lost).why(), Some(Cancelled::LeaseLost));
}

#[test]
fn signals_reach_their_handlers_and_a_request_to_cancel_is_acknowledged_once() {
    let mut fixture = Fixture::new(1);
    let id = fixture.begin("a");
    let signal = |directive: pb::Directive| pb::ServeQueueResponse {
        signals: vec![Signal { name: "a".to_owned(), directive: Some(directive) }],
        ..Default::default()
    };
    fixture.read(signal(pb::Directive { pause_requested: true, ..Default::default() }));
    assert!(fixture.job(id).directives.borrow().pause);
    fixture.read(signal(pb::Directive::default()));
    assert!(!fixture.job(id).directives.borrow().pause, "a caller resumed it");
    for _ in 0..2 {
        fixture.read(signal(pb::Directive { cancel_requested: true, ..Default::default() }));
    }
    assert_eq!(fixture.job(id).why(), Some(Cancelled::Requested));
    let sent = fixture.next().expect("the acknowledgement");
    assert!(sent.reports[0].cancel_acknowledged);
    fixture.acknowledge(sent.sequence);
    assert!(fixture.next().is_none());
    let outcome = Outcome {
        name: "a".to_owned(),
        error: Some(rpc::Status { code: 9, ..Default::default() }),
        ..Default::default()
    };
    fixture.read(pb::ServeQueueResponse { outcomes: vec![outcome], ..Default::default() });
    assert_eq!(fixture.job(id).why(), Some(Cancelled::LeaseLost));
}

#[test]
fn a_heartbeat_comes_in_time_and_silence_ends_the_stream() {
    let mut fixture = Fixture::new(1);
    assert_eq!(fixture.session.due(), Duration::from_secs(10) * 2 / 3);
    fixture.now = fixture.session.due();
    assert!(fixture.session.tick(fixture.now));
    let beat = fixture.next().expect("a heartbeat");
    assert_eq!(beat, pb::ServeQueueRequest { sequence: 2, seen_sequence: 1, ..Default::default() });
    fixture.now = Duration::from_secs(30);
    assert!(!fixture.session.tick(fixture.now));
}

#[test]
fn a_drain_takes_no_more_and_closes_once_all_is_acknowledged() {
    let mut fixture = Fixture::new(2);
    let id = fixture.begin("a");
    fixture.session.drain();
    assert!(fixture.job(id).directives.borrow().drain);
    assert_eq!(fixture.next().expect("no more").slots, Some(0));
    fixture.lease(&["late"]);
    assert_eq!(fixture.next().expect("it goes back").releases[0].name, "late");
    assert_eq!(fixture.begun.len(), 1, "what crossed the wish is not begun");
    fixture.complete(id);
    let end = fixture.next().expect("the end");
    fixture.acknowledge(end.sequence);
    assert!(fixture.session.is_idle());
    fixture.session.close();
    assert!(matches!(fixture.session.next(fixture.now), Next::Close));
    assert!(matches!(fixture.session.next(fixture.now), Next::Nothing));
    assert!(fixture.session.is_closed());
}

#[test]
fn the_stream_closes_once_nothing_is_held_and_the_server_is_shutting_down() {
    let mut fixture = Fixture::new(2);
    let id = fixture.begin("a");
    let drain_duration = Some(prost_types::Duration { seconds: 30, nanos: 0 });
    fixture.read(pb::ServeQueueResponse { drain_duration, ..Default::default() });
    assert!(fixture.job(id).directives.borrow().drain);
    assert!(fixture.next().is_none());
    fixture.complete(id);
    let end = fixture.next().expect("the end");
    fixture.acknowledge(end.sequence);
    assert!(matches!(fixture.session.next(fixture.now), Next::Close));
    assert_eq!(fixture.open(&[]).slots, Some(2), "the next stream takes work again");
}

#[test]
fn a_message_out_of_sequence_is_noticed() {
    let mut fixture = Fixture::new(1);
    let response = pb::ServeQueueResponse { sequence: 7, ..Default::default() };
    assert!(fixture.session.read(response, fixture.now).is_err());
}
