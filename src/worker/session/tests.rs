use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Code;

use super::*;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;
use crate::proto::longhaul::v1::serve_queue_response::{Outcome, Signal, Welcome};
use crate::worker::stop::Stop;

/// A session whose time stands still unless a test says otherwise, and the server at its other end.
struct Table {
    session: Session,
    now: Duration,
    said: i64,
    begun: Vec<Start>,
}

impl Table {
    fn new(slots: usize) -> Self {
        let terms = Terms {
            queue: "q".to_owned(),
            worker: "w".to_owned(),
            lease: Duration::from_secs(30),
            grace: None,
            slots,
        };
        let mut table =
            Self { session: Session::new(terms), now: Duration::ZERO, said: 0, begun: Vec::new() };
        table.open(&[]);
        table
    }

    /// A new stream; what Hello holds.
    fn open(&mut self, lost: &[&str]) -> pb::ServeQueueRequest {
        self.session.open(self.now);
        self.said = 0;
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
            Next::Say(request, starts) => {
                self.begun.extend(starts);
                Some(*request)
            }
            Next::Close => panic!("closed"),
            Next::Nothing => None,
        }
    }

    fn read(&mut self, response: pb::ServeQueueResponse) {
        self.said += 1;
        let response = pb::ServeQueueResponse { sequence: self.said, ..response };
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

    /// Leases it and lets it begin; its id.
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

    fn note(&mut self, id: u64, note: Note) {
        self.session.note(id, note, None, self.now);
    }
}

fn payload(bytes: usize) -> Any {
    Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![7; bytes].into() }
}

#[test]
fn hello_comes_first_and_once_with_the_slots() {
    let mut table = Table::new(4);
    let first = table.open(&[]);
    let hello = first.hello.expect("Hello");
    assert_eq!((&hello.queue[..], &hello.worker[..], first.sequence), ("q", "w", 1));
    assert_eq!(first.slots, Some(4));
    assert!(table.next().is_none(), "nothing else is to be said");
    table.acknowledge(1);
    assert!(table.next().is_none(), "an acknowledgement asks for no answer");
}

#[test]
fn what_was_read_is_said_to_be_seen_before_it_begins() {
    let mut table = Table::new(4);
    table.lease(&["a", "b"]);
    assert!(table.begun.is_empty());
    let seen = table.next().expect("a message without calls");
    assert_eq!((seen.sequence, seen.seen_sequence, seen.slots, seen.hello), (2, 2, None, None));
    assert_eq!(table.begun.len(), 2);
}

#[test]
fn one_message_takes_in_all_that_was_said() {
    let mut table = Table::new(4);
    table.lease(&["a", "b", "c", "d", "e"]);
    table.next();
    let ids: Vec<u64> = table.begun.iter().map(|start| start.job.id).collect();
    table.note(ids[0], Note::Progress(0.1.into()));
    table.note(ids[0], Note::Progress(0.2.into()));
    table.complete(ids[1]);
    table.session.finish(ids[2], End::Stop(Stop::fail(Code::Internal, "oh")));
    table.session.finish(ids[3], End::Stop(Stop::release(Duration::ZERO)));
    table.session.finish(ids[4], End::Stop(Stop::suspend("lunch")));
    let said = table.next().expect("all of it");
    assert_eq!(said.reports.len(), 1, "the newest progress wins");
    assert_eq!(said.reports[0].progress.as_ref().and_then(|progress| progress.fraction), Some(0.2));
    assert_eq!(said.reports[0].report_number, 1);
    assert_eq!(said.completions[0].lease_token, "token of b");
    assert_eq!(said.failures[0].name, "c");
    assert_eq!(said.releases[0].name, "d");
    assert_eq!(said.suspensions[0].reason, "lunch");
    assert!(table.next().is_none());
}

#[test]
fn what_was_not_acknowledged_is_said_again_word_for_word_and_nothing_else() {
    let mut table = Table::new(4);
    let (a, b, c) = (table.begin("a"), table.begin("b"), table.begin("c"));
    table.complete(a);
    let handled = table.next().expect("a's end");
    table.note(b, Note::Checkpoint(payload(3)));
    let report = table.next().expect("b's report");
    table.complete(b);
    let end = table.next().expect("b's end");
    table.acknowledge(handled.sequence);
    table.session.cut();
    assert!(table.next().is_none(), "there is no stream");
    table.complete(c);
    let again = table.open(&[]);
    assert_eq!(again.sequence, 1);
    assert_eq!(again.seen_sequence, 0);
    assert_eq!(again.reports, report.reports);
    assert_eq!(again.completions[0], end.completions[0]);
    assert_eq!(again.completions.len(), 2, "c's end was said while there was no stream");
    let mut held: Vec<String> =
        again.hello.expect("Hello").held.into_iter().map(|held| held.name).collect();
    held.sort();
    assert_eq!(held, ["b", "c"]);
    table.acknowledge(1);
    assert!(table.session.is_idle());
}

#[test]
fn what_was_never_said_to_be_seen_is_neither_begun_nor_held_after_a_cut() {
    let mut table = Table::new(4);
    table.lease(&["a"]);
    let again = table.open(&[]);
    assert!(table.begun.is_empty());
    assert!(again.hello.expect("Hello").held.is_empty());
    assert!(table.session.is_idle());
}

#[test]
fn what_is_lost_after_a_cut_is_told_to_its_handler_and_its_slot_is_taken_until_that_ends() {
    let mut table = Table::new(4);
    let (lost, kept) = (table.begin("lost"), table.begin("kept"));
    table.open(&["lost", "unheard of"]);
    assert_eq!(table.job(lost).why(), Some(Cancelled::LeaseLost));
    assert_eq!(table.job(kept).why(), None);
    assert_eq!(table.next().expect("fewer slots").slots, Some(3));
    table.note(lost, Note::Progress(0.5.into()));
    table.complete(lost);
    let said = table.next().expect("the slot is free");
    assert_eq!((said.slots, said.completions.len()), (Some(4), 0));
}

#[test]
fn an_end_that_counted_before_the_cut_may_be_called_lost_and_is_repeated() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    table.complete(id);
    table.next();
    let again = table.open(&["a"]);
    assert_eq!(again.completions.len(), 1);
    assert_eq!(table.job(id).why(), None);
    table.acknowledge(1);
    assert!(table.session.is_idle());
}

#[test]
fn a_newer_lease_of_an_operation_is_another_job() {
    let mut table = Table::new(4);
    let old = table.begin("a");
    let new = table.begin("a");
    assert_eq!(table.job(old).why(), Some(Cancelled::LeaseLost));
    table.complete(old);
    table.next();
    table.complete(new);
    let said = table.next().expect("the end of the newer one");
    assert_eq!(said.completions.len(), 1);
}

#[test]
fn a_message_has_at_most_a_hundred_calls_of_a_kind_and_three_mebibytes() {
    let mut table = Table::new(1_000);
    let names: Vec<String> = (0..250).map(|number| format!("operations/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    table.lease(&names);
    table.next();
    let ids: Vec<u64> = table.begun.iter().map(|start| start.job.id).collect();
    for id in &ids {
        table.note(*id, Note::Metadata(payload(10)));
    }
    let reports: Vec<usize> =
        std::iter::from_fn(|| table.next().map(|said| said.reports.len())).collect();
    assert_eq!(reports, [100, 100, 50]);
    for id in &ids[..8] {
        table.session.finish(*id, End::Response(Some(payload(1 << 20))));
    }
    let mut ends = 0;
    while let Some(said) = table.next() {
        assert!(prost::Message::encoded_len(&said) <= 3 << 20);
        assert_eq!(said.completions.len(), 2);
        ends += said.completions.len();
    }
    assert_eq!(ends, 8);
}

#[test]
fn an_operation_has_one_report_under_way_and_bare_progress_waits_its_time() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    table.now = Duration::from_secs(1);
    table.note(id, Note::Progress(0.1.into()));
    let first = table.next().expect("at once");
    table.note(id, Note::Checkpoint(payload(1)));
    assert!(table.next().is_none(), "the first is not acknowledged");
    table.acknowledge(first.sequence);
    let second = table.next().expect("a checkpoint does not wait");
    assert_eq!((second.reports[0].report_number, second.reports[0].progress.is_some()), (2, false));
    table.acknowledge(second.sequence);
    table.note(id, Note::Progress(0.2.into()));
    assert!(table.next().is_none());
    assert_eq!(table.session.due(), table.now + PROGRESS_PACE);
    table.now += PROGRESS_PACE;
    assert!(table.session.tick(table.now));
    assert_eq!(table.next().expect("its time has come").reports[0].report_number, 3);
}

#[test]
fn an_end_takes_along_what_was_reported_before() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    table.note(id, Note::Progress(1.0.into()));
    table.note(id, Note::Metadata(payload(1)));
    table.complete(id);
    let said = table.next().expect("the end");
    assert!(said.reports.is_empty());
    assert!(said.completions[0].progress.is_some() && said.completions[0].metadata.is_some());

    let id = table.begin("b");
    table.note(id, Note::PartialError(rpc::Status::default()));
    table.note(id, Note::Checkpoint(payload(2)));
    table.session.finish(id, End::Stop(Stop::fail(Code::Unavailable, "later")));
    let said = table.next().expect("the end");
    assert_eq!(said.reports[0].partial_errors.len(), 1, "a failure has no room for it");
    assert_eq!(said.failures[0].checkpoint, Some(payload(2)));
}

#[test]
fn a_refused_end_becomes_internal_then_a_release_then_nothing() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    table.complete(id);
    let said = table.next().expect("the end");
    table.refuse(&said, Kind::Completion, "a", Code::InvalidArgument);
    let said = table.next().expect("a failure instead");
    let error = said.failures[0].error.clone().expect("an error");
    assert_eq!((error.code, error.message.contains("refused: no")), (13, true));
    table.refuse(&said, Kind::Failure, "a", Code::InvalidArgument);
    let said = table.next().expect("a release instead");
    assert!(said.releases[0].delay.is_some());
    table.refuse(&said, Kind::Release, "a", Code::InvalidArgument);
    assert!(table.next().is_none() && table.session.is_idle());
}

#[test]
fn an_end_too_large_for_any_message_is_never_sent() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    table.session.finish(id, End::Response(Some(payload(4 << 20))));
    let said = table.next().expect("a failure");
    assert!(said.completions.is_empty());
    assert_eq!(said.failures[0].error.as_ref().map(|error| error.code), Some(13));
}

#[test]
fn whoever_awaits_a_report_learns_what_became_of_it() {
    let mut table = Table::new(3);
    let (stored, refused, lost) = (table.begin("a"), table.begin("b"), table.begin("c"));
    let mut receipts = Vec::new();
    for id in [stored, refused, lost] {
        let (receipt, told) = oneshot::channel();
        table.session.note(id, Note::Checkpoint(payload(1)), Some(receipt), table.now);
        receipts.push(told);
    }
    let said = table.next().expect("three reports");
    assert!(receipts[0].try_recv().is_err(), "nobody knows yet");
    let outcome = |name: &str, code: Code| Outcome {
        sequence: said.sequence,
        call: Kind::Report.into(),
        name: name.to_owned(),
        error: Some(rpc::Status { code: code as i32, ..Default::default() }),
        ..Default::default()
    };
    table.read(pb::ServeQueueResponse {
        acknowledged_sequence: said.sequence,
        outcomes: vec![outcome("b", Code::InvalidArgument), outcome("c", Code::FailedPrecondition)],
        ..Default::default()
    });
    assert_eq!(receipts[0].try_recv(), Ok(Ok(())));
    assert!(matches!(receipts[1].try_recv(), Ok(Err(_))));
    assert_eq!(receipts[2].try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(table.job(refused).why(), None, "a refused report ends nothing");
    assert_eq!(table.job(lost).why(), Some(Cancelled::LeaseLost));
}

#[test]
fn signals_reach_their_handlers_and_a_request_to_cancel_is_acknowledged_once() {
    let mut table = Table::new(1);
    let id = table.begin("a");
    let signal = |directive: pb::Directive| pb::ServeQueueResponse {
        signals: vec![Signal { name: "a".to_owned(), directive: Some(directive) }],
        ..Default::default()
    };
    table.read(signal(pb::Directive { pause_requested: true, ..Default::default() }));
    assert!(table.job(id).wishes.borrow().pause);
    table.read(signal(pb::Directive::default()));
    assert!(!table.job(id).wishes.borrow().pause, "somebody resumed it");
    for _ in 0..2 {
        table.read(signal(pb::Directive { cancel_requested: true, ..Default::default() }));
    }
    assert_eq!(table.job(id).why(), Some(Cancelled::Requested));
    let said = table.next().expect("the acknowledgement");
    assert!(said.reports[0].cancel_acknowledged);
    table.acknowledge(said.sequence);
    assert!(table.next().is_none());
    let outcome = Outcome {
        name: "a".to_owned(),
        error: Some(rpc::Status { code: 9, ..Default::default() }),
        ..Default::default()
    };
    table.read(pb::ServeQueueResponse { outcomes: vec![outcome], ..Default::default() });
    assert_eq!(table.job(id).why(), Some(Cancelled::LeaseLost));
}

#[test]
fn a_heartbeat_comes_in_time_and_silence_ends_the_stream() {
    let mut table = Table::new(1);
    assert_eq!(table.session.due(), Duration::from_secs(10) * 2 / 3);
    table.now = table.session.due();
    assert!(table.session.tick(table.now));
    let beat = table.next().expect("a heartbeat");
    assert_eq!(beat, pb::ServeQueueRequest { sequence: 2, seen_sequence: 1, ..Default::default() });
    table.now = Duration::from_secs(30);
    assert!(!table.session.tick(table.now));
}

#[test]
fn a_drain_takes_no_more_and_closes_once_all_is_acknowledged() {
    let mut table = Table::new(2);
    let id = table.begin("a");
    table.session.drain();
    assert!(table.job(id).wishes.borrow().drain);
    assert_eq!(table.next().expect("no more").slots, Some(0));
    table.lease(&["late"]);
    assert_eq!(table.next().expect("it goes back").releases[0].name, "late");
    assert_eq!(table.begun.len(), 1, "what crossed the wish is not begun");
    table.complete(id);
    let end = table.next().expect("the end");
    table.acknowledge(end.sequence);
    assert!(table.session.is_idle());
    table.session.close();
    assert!(matches!(table.session.next(table.now), Next::Close));
    assert!(matches!(table.session.next(table.now), Next::Nothing));
    assert!(table.session.is_closed());
}

#[test]
fn a_server_that_goes_away_is_left_once_nothing_is_held() {
    let mut table = Table::new(2);
    let id = table.begin("a");
    let drain_duration = Some(prost_types::Duration { seconds: 30, nanos: 0 });
    table.read(pb::ServeQueueResponse { drain_duration, ..Default::default() });
    assert!(table.job(id).wishes.borrow().drain);
    assert!(table.next().is_none());
    table.complete(id);
    let end = table.next().expect("the end");
    table.acknowledge(end.sequence);
    assert!(matches!(table.session.next(table.now), Next::Close));
    assert_eq!(table.open(&[]).slots, Some(2), "the next stream takes work again");
}

#[test]
fn a_message_out_of_sequence_is_noticed() {
    let mut table = Table::new(1);
    let response = pb::ServeQueueResponse { sequence: 7, ..Default::default() };
    assert!(table.session.read(response, table.now).is_err());
}
