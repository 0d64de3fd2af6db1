use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::board::{AfterKey, Board, Fetched};
use super::draw;
use crate::clock::Timestamp;
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::operation_stats::Count;
use crate::proto::longhaul::v1::{
    OperationMetadata, OperationRecord, OperationStats, Progress, Queue, Worker,
};

fn now(seconds: u64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000)
}

fn stats(seconds: u64, running: i64, succeeded: i64) -> OperationStats {
    let count = |state: State, operations| Count { state: state.into(), operations };
    OperationStats {
        counts: vec![
            count(State::Pending, 7),
            count(State::Running, running),
            count(State::Suspended, 0),
            count(State::Succeeded, succeeded),
            count(State::Failed, 1),
        ],
        read_time: Some(now(seconds).into()),
        ..OperationStats::default()
    }
}

fn queue(name: &str, pending_operations: i64, running_operations: i64) -> Queue {
    let name = format!("queues/{name}");
    Queue { name, pending_operations, running_operations, workers: 1, ..Queue::default() }
}

fn running(name: &str, fraction: f64) -> OperationRecord {
    let progress = Progress { fraction: Some(fraction), ..Progress::default() };
    let metadata = OperationMetadata {
        state: State::Running.into(),
        progress: Some(progress),
        status_detail: "resizing \x1b[2J".to_owned(),
        attempt_count: 1,
        ..OperationMetadata::default()
    };
    let name = format!("operations/{name}");
    OperationRecord { name, server_metadata: Some(metadata), ..OperationRecord::default() }
}

fn failed(name: &str) -> OperationRecord {
    let error = Status { code: 8, message: "mailbox full".to_owned(), details: Vec::new() };
    let result = Some(operation::Result::Error(error));
    let operation = Operation { done: true, result, ..Operation::default() };
    let metadata = OperationMetadata {
        state: State::Failed.into(),
        end_time: Some(now(0).into()),
        ..OperationMetadata::default()
    };
    OperationRecord {
        name: format!("operations/{name}"),
        operation: Some(operation),
        server_metadata: Some(metadata),
        ..OperationRecord::default()
    }
}

fn polled(seconds: u64) -> Fetched {
    Fetched {
        now: now(seconds),
        stats: stats(seconds, 2, 100 + 5 * seconds as i64),
        running: vec![running("resize-1", 0.5), running("resize-2", 0.99)],
        failures: vec![failed("mail-2")],
        queues: vec![queue("images", 7, 1), queue("mail", 0, 1)],
        workers: Vec::new(),
        details: None,
    }
}

fn board() -> Board {
    let mut board = Board::new("127.0.0.1:50051", "-", Duration::from_secs(1), now(0));
    board.take(Ok(polled(0)));
    board.take(Ok(polled(2)));
    board
}

/// The rows of a screen of that size.
fn screen(board: &Board, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| draw::draw(board, frame.area(), frame.buffer_mut())).expect("drawn");
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(width.max(1)));
    rows.map(|row| row.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

fn press(board: &mut Board, code: KeyCode) -> AfterKey {
    board.step(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn shows(board: &Board, text: &str) -> bool {
    screen(board, 100, 24).iter().any(|row| row.contains(text))
}

#[test]
fn a_screen_shows_counts_rates_queues_bars_failures_and_keys() {
    let expected = "\
longhaul top  127.0.0.1:50051
120 operations  5.0 started/s  5.0 ended/s
7 PENDING  2 RUNNING  1 FAILED  110 SUCCEEDED

queue     pending    running  workers     oldest
images          7          1        1          -
mail            0          1        1          -

2 running
> resize-1  [#####-----]  50%  resizing \\u001b[2J
  resize-2  [#########-]  99%  resizing \\u001b[2J



last failures
  mail-2      2 s ago  mailbox full (RESOURCE_EXHAUSTED)

up/down select  enter details  q quit";
    assert_eq!(screen(&board(), 80, 18).join("\n"), expected);
}

#[test]
fn a_narrow_and_a_low_screen_show_the_most_important() {
    let expected = "\
120 operations  5.0 started/s  5.0 ended
7 PENDING  2 RUNNING  1 FAILED  110 SUCC
queue     pending    running  workers
images          7          1        1
2 running
> resize-1   50%  resizing \\u001b[2J
  resize-2   99%  resizing \\u001b[2J
last failures
  mail-2      2 s ago  mailbox full (RES
up/down select  enter details  q quit";
    assert_eq!(screen(&board(), 40, 10).join("\n"), expected);
    assert_eq!(
        screen(&board(), 20, 3),
        ["120 operations  5.0", "2 running", "> resize-1   50%  re"]
    );
}

#[test]
fn plain_lines_cut_nothing_and_select_nothing() {
    let mut board = board();
    let mut next = polled(3);
    next.running[0].name = format!("operations/{}", "long-".repeat(12));
    board.take(Ok(next));
    let lines = draw::plain_lines(&board);
    let long = format!("  operations/{}  [##########----------]  50%", "long-".repeat(12));
    assert!(lines.iter().any(|line| line.starts_with(&long)), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("  operations/mail-2")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with('>')), "{lines:#?}");
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    let (mut open, mut away) = (board(), board());
    press(&mut open, KeyCode::Enter);
    away.take(Err("no answer".to_owned()));
    let empty = Board::new("a", "projects/p", Duration::from_secs(1), now(0));
    for board in [board(), empty, open, away] {
        for width in [0, 1, 2, 3, 10, 79, 300] {
            for height in [0, 1, 2, 3, 4, 5, 8, 24, 100] {
                screen(&board, width, height);
            }
        }
    }
}

#[test]
fn keys_select_open_scroll_and_close() {
    let mut board = board();
    for (code, row) in [
        (KeyCode::Down, 1),
        (KeyCode::Char('j'), 2),
        (KeyCode::Down, 2),
        (KeyCode::Home, 0),
        (KeyCode::Up, 0),
        (KeyCode::End, 2),
        (KeyCode::PageUp, 0),
    ] {
        assert_eq!((press(&mut board, code), board.selected), (AfterKey::Stay, row), "{code:?}");
    }
    press(&mut board, KeyCode::Enter);
    assert_eq!(board.opened(), Some("operations/resize-1"));
    assert!(shows(&board, "loading ..."));
    let name = "operations/resize-1".to_owned();
    let details = Some((name.clone(), format!("{name}\n  state  RUNNING\nlast")));
    board.take(Ok(Fetched { details, ..polled(3) }));
    assert_eq!(screen(&board, 40, 9)[2..5], [name.as_str(), "  state  RUNNING", "last"]);
    press(&mut board, KeyCode::Down);
    assert_eq!(screen(&board, 40, 9)[2], "  state  RUNNING");
    press(&mut board, KeyCode::End);
    assert_eq!(screen(&board, 40, 9)[2], "last");
    press(&mut board, KeyCode::Esc);
    assert_eq!((board.opened(), board.selected), (None, 0));
    assert_eq!(press(&mut board, KeyCode::Char('q')), AfterKey::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(board.step(Event::Key(interrupt)), AfterKey::Quit);
}

#[test]
fn details_of_another_operation_are_not_shown() {
    let mut board = board();
    let details = Some(("operations/resize-1".to_owned(), "first".to_owned()));
    board.take(Ok(Fetched { details, ..polled(3) }));
    press(&mut board, KeyCode::Down);
    press(&mut board, KeyCode::Enter);
    assert!(shows(&board, "loading ...") && !shows(&board, "first"));
}

#[test]
fn the_selection_stays_on_its_operation_and_on_the_screen() {
    let mut board = board();
    press(&mut board, KeyCode::Down);
    let mut next = polled(3);
    next.running = (0..50).map(|number| running(&format!("new-{number}"), 0.1)).collect();
    next.running.push(running("resize-2", 1.0));
    board.take(Ok(next));
    assert_eq!(board.selected, 50);
    assert!(shows(&board, "> resize-2"));
}

#[test]
fn the_busiest_queues_are_shown_where_there_is_no_room_for_all() {
    let mut board = board();
    let mut next = polled(3);
    let pending = |number: i64| if number % 10 == 7 { 5 } else { 0 };
    next.queues =
        (0..30).map(|number| queue(&format!("q{number:02}"), pending(number), 1)).collect();
    board.take(Ok(next));
    let rows = screen(&board, 80, 24);
    let queues = rows.iter().filter_map(|row| row.split(' ').next().filter(|q| q.starts_with('q')));
    assert_eq!(queues.collect::<Vec<_>>(), ["queue", "q00", "q07", "q17", "q27"]);
}

#[test]
fn workers_and_what_is_wrong_with_queues_are_shown() {
    let mut board = board();
    let mut next = polled(3);
    let oldest_pending_time = Some(now(1).into());
    next.queues[0] = Queue { unserved: true, oldest_pending_time, ..next.queues[0].clone() };
    let worker = |name: &str, held_count| Worker {
        queue: "queues/mail".to_owned(),
        worker: name.to_owned(),
        server: "s-1".to_owned(),
        stream: true,
        slots: 4,
        held_count,
        heard_time: Some(now(1).into()),
        ..Worker::default()
    };
    next.workers = vec![worker("idle\x1b[2J", 0), worker("busy", 3)];
    board.take(Ok(next));
    let rows = screen(&board, 100, 24).join("\n");
    for row in [
        "images          7          1        1        2 s  NO WORKER",
        "worker         queue  holds  slots  heard    process  server",
        "busy           mail   3      4      2 s ago  -        s-1",
        "idle\\u001b[2J  mail   0      4      2 s ago  -        s-1",
    ] {
        assert!(rows.contains(row), "{row:?} is missing in\n{rows}");
    }
}

#[test]
fn an_outage_is_shown_over_the_last_answer_until_the_next() {
    let mut board = board();
    let second = |seconds| screen_at(&mut board.clone(), seconds);
    assert!(second(4).starts_with("120 operations"), "{}", second(4));
    assert_eq!(second(6), "no answer for 4 s");
    board.take(Err("connection refused\x1b[2J".to_owned()));
    let text = "no answer for 7 s: connection refused\\u001b[2J";
    assert_eq!(screen_at(&mut board, 9), text);
    assert!(shows(&board, "resize-1"));
    board.take(Ok(polled(60)));
    assert_eq!(screen_at(&mut board, 60), "410 operations");
    board.take(Ok(polled(62)));
    assert!(screen_at(&mut board, 62).ends_with("  5.0 started/s  5.0 ended/s"));
}

fn screen_at(board: &mut Board, seconds: u64) -> String {
    board.tick(now(seconds));
    screen(board, 100, 24)[1].clone()
}

#[test]
fn rates_are_taken_over_a_second_at_least() {
    let mut board = board();
    let before = board.rates.expect("rates");
    let mut soon = polled(2);
    soon.stats.read_time = Some(Timestamp::from_micros(now(2).as_micros() + 100_000).into());
    soon.stats.counts[4].operations += 1;
    board.take(Ok(soon.clone()));
    assert_eq!(board.rates, Some(before));
    soon.stats.read_time = Some(now(3).into());
    board.take(Ok(soon));
    let rates = board.rates.expect("rates");
    assert_eq!((rates.started, rates.ended, rates.failed), (1.0, 1.0, 1.0));
    assert!(shows(&board, "1.0 failed/s"));
}
