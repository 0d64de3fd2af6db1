//! The board as cells of a screen of any size, or as lines of text: pure functions.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::board::{ALL, Board, count};
use crate::cli::labels::labels;
use crate::cli::plain;
use crate::cli::served;
use crate::cli::table::{self, Ahead};
use crate::clock::Timestamp;
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::queue::State as QueueState;
use crate::proto::longhaul::v1::{OperationRecord, OperationStats, Queue, Worker};

/// Draws the board.
pub(super) fn draw(board: &Board, area: Rect, buffer: &mut Buffer) {
    let (head_rows, key_rows) = match area.height {
        0..=4 => (1, 0),
        5..=11 => (2, 1),
        _ => (4, 1),
    };
    let rows = [Constraint::Length(head_rows), Constraint::Fill(1), Constraint::Length(key_rows)];
    let [head, body, keys] = Layout::vertical(rows).areas(area);
    let title = (head_rows > 2).then(|| title(board));
    print(title.into_iter().chain(head_lines(board)).collect(), head, buffer);
    if board.opened().is_some() {
        let text = Paragraph::new(details(board)).wrap(Wrap { trim: false });
        text.render(body, buffer);
    } else {
        draw_lists(board, body, buffer);
    }
    print(vec![Line::styled(keys_of(board), DIM)], keys, buffer);
}

/// The whole board without a screen: names and texts are not cut.
pub(super) fn plain_lines(board: &Board) -> Vec<String> {
    let polled = &board.polled;
    let mut lines = vec![title(board)];
    lines.extend(head_lines(board));
    let queues: Vec<&Queue> = polled.queues.iter().collect();
    let running = Rows::of(board, &polled.running, 0, None);
    let failures = Rows::of(board, &polled.failures, polled.running.len(), None);
    for section in [
        queue_lines(&queues, usize::MAX, board.now),
        worker_lines(&polled.workers, board.now),
        running.lines(&running_title(&polled.stats), usize::MAX, running_line),
        failures.lines("last failures", usize::MAX, failed_line),
    ] {
        if section.len() > 1 {
            lines.push(Line::default());
            lines.extend(section);
        }
    }
    lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
}

/// The queues and the workers above, the failures at the bottom, and the running operations in the rest: so nothing jumps when they come and
/// go.
fn draw_lists(board: &Board, area: Rect, buffer: &mut Buffer) {
    let polled = &board.polled;
    let third = area.height / 3;
    let queue_rows = section(polled.queues.len(), third);
    let worker_rows = section(polled.workers.len(), area.height / 4);
    let failure_rows = section(polled.failures.len(), third);
    let [top, below, middle, bottom] = Layout::vertical([
        Constraint::Length(queue_rows),
        Constraint::Length(worker_rows),
        Constraint::Fill(1),
        Constraint::Length(failure_rows),
    ])
    .areas(area);
    // An empty row stands below them if there is one to spare.
    let room = usize::from(queue_rows.saturating_sub(2)).max(1);
    if queue_rows > 0 {
        let queues = busiest(&polled.queues, room);
        let longest = usize::from(area.width / 2).max(12);
        print(queue_lines(&queues, longest, board.now), top, buffer);
    }
    if worker_rows > 0 {
        let mut lines = worker_lines(&polled.workers, board.now);
        lines.truncate(usize::from(worker_rows) - 1);
        print(lines, below, buffer);
    }
    let running = Rows::of(board, &polled.running, 0, Some(area.width));
    let room = usize::from(middle.height).saturating_sub(1);
    print(running.lines(&running_title(&polled.stats), room, running_line), middle, buffer);
    let failures = Rows::of(board, &polled.failures, polled.running.len(), Some(area.width));
    let room = usize::from(bottom.height).saturating_sub(1);
    print(failures.lines("last failures", room, failed_line), bottom, buffer);
}

/// Rows of a list with its title and an empty row, as far as there is room for a row of it.
fn section(rows: usize, room: u16) -> u16 {
    let wanted = u16::try_from(rows + 2).unwrap_or(u16::MAX);
    if rows == 0 || room < 2 { 0 } else { wanted.min(room) }
}

/// Operations, one in a row.
struct Rows<'a> {
    records: &'a [OperationRecord],
    names: Vec<String>,
    now: Timestamp,
    /// Columns of the screen, if there is one.
    columns: Option<u16>,
    /// The row of the selected operation, if it is one of these.
    selected: Option<usize>,
}

impl<'a> Rows<'a> {
    /// Operations from that row on among all that can be selected.
    fn of(
        board: &Board,
        records: &'a [OperationRecord],
        first: usize,
        columns: Option<u16>,
    ) -> Self {
        let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
        let names = match columns {
            Some(columns) => labels(&names, usize::from(columns / 3).clamp(12, 40)),
            None => names.iter().map(|name| plain::line(name)).collect(),
        };
        let selected = board.selected.checked_sub(first).filter(|own| *own < records.len());
        let selected = selected.filter(|_| columns.is_some());
        Self { records, names, now: board.now, columns, selected }
    }

    /// A title, and as many rows as there is room for, the selected one among them.
    fn lines(
        &self,
        title: &str,
        room: usize,
        line: fn(&OperationRecord, &Self) -> Line<'static>,
    ) -> Vec<Line<'static>> {
        let skipped = self.selected.map_or(0, |own| (own + 1).saturating_sub(room));
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let mut lines = vec![Line::styled(title.to_owned(), BOLD)];
        let rows = self.records.iter().zip(&self.names).enumerate().skip(skipped).take(room);
        lines.extend(rows.map(|(row, (record, name))| {
            let is_selected = self.selected == Some(row);
            let (mark, style) = if is_selected { (">", REVERSED) } else { (" ", Style::new()) };
            let mut spans = vec![Span::raw(format!("{mark} {name:<width$}  "))];
            spans.extend(line(record, self).spans);
            Line::from(spans).style(style)
        }));
        lines
    }

    /// Characters of a bar.
    fn bar(&self) -> usize {
        match self.columns {
            Some(0..60) => 0,
            Some(60..100) => 10,
            _ => 20,
        }
    }
}

fn running_line(record: &OperationRecord, rows: &Rows<'_>) -> Line<'static> {
    let server = record.server_metadata.clone().unwrap_or_default();
    let percent = table::percent(&server);
    let bar = bar(table::fraction(&server), rows.bar());
    let text = table::live(&server, &Ahead::of(record), rows.now);
    Line::from(vec![
        Span::styled(bar, colour(server.state())),
        Span::raw(format!("{percent:>4}  {text}")),
    ])
}

fn failed_line(record: &OperationRecord, rows: &Rows<'_>) -> Line<'static> {
    let server = record.server_metadata.clone().unwrap_or_default();
    let ago = table::ago(server.end_time.as_ref(), rows.now);
    let why = plain::line(&table::why(record, rows.now));
    Line::from(vec![Span::raw(format!("{ago:>11}  ")), Span::styled(why, colour(State::Failed))])
}

fn running_title(stats: &OperationStats) -> String {
    match count(stats, &[State::Running, State::Cancelling]) {
        0 => "nothing is running".to_owned(),
        all => format!("{all} running"),
    }
}

fn title(board: &Board) -> Line<'static> {
    let mut spans = vec![Span::styled("longhaul top", BOLD)];
    let parent = if board.parent == "-" { "" } else { board.parent.as_str() };
    for text in [board.server.as_str(), parent] {
        if !text.is_empty() {
            spans.push(Span::raw(format!("  {}", plain::line(text))));
        }
    }
    Line::from(spans)
}

/// The rates or an outage, and the counts.
fn head_lines(board: &Board) -> Vec<Line<'static>> {
    let stats = &board.polled.stats;
    let first = match (board.outage(), board.rates) {
        (Some((silence, cause)), _) => {
            let text = format!("no answer for {}", table::span(silence));
            let cause = if cause.is_empty() { String::new() } else { format!(": {cause}") };
            Line::styled(plain::line(&(text + &cause)), Style::new().fg(Color::Red))
        }
        (None, rates) => {
            let all = count(stats, &ALL);
            let all = if all == 1 { "1 operation".to_owned() } else { format!("{all} operations") };
            let mut spans = vec![Span::styled(all, BOLD)];
            if let Some(rates) = rates {
                let (started, ended) = (rate(rates.started), rate(rates.ended));
                spans.push(Span::raw(format!("  {started} started/s  {ended} ended/s")));
                if rates.failed > 0.0 {
                    let text = format!("  {} failed/s", rate(rates.failed));
                    spans.push(Span::styled(text, colour(State::Failed)));
                }
            }
            Line::from(spans)
        }
    };
    vec![first, Line::from(states(stats))]
}

fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// The states in which there are operations.
fn states(stats: &OperationStats) -> Vec<Span<'static>> {
    let counts = ALL.map(|state| (state, count(stats, &[state]))).into_iter();
    let some = counts.filter(|(_, count)| *count != 0);
    some.map(|(state, count)| {
        Span::styled(format!("{count} {}  ", state.as_str_name()), colour(state))
    })
    .collect()
}

/// As many queues as there is room for: those with most to do, in the order of their names.
fn busiest(queues: &[Queue], room: usize) -> Vec<&Queue> {
    let mut queues: Vec<(usize, &Queue)> = queues.iter().enumerate().collect();
    queues.sort_by_key(|(_, queue)| {
        std::cmp::Reverse(queue.pending_operations.saturating_add(queue.running_operations))
    });
    queues.truncate(room);
    queues.sort_by_key(|(place, _)| *place);
    queues.into_iter().map(|(_, queue)| queue).collect()
}

/// The queues, with names of at most so many characters.
fn queue_lines(queues: &[&Queue], longest: usize, now: Timestamp) -> Vec<Line<'static>> {
    let names = queues.iter().map(|queue| served::id(queue).to_owned());
    let names = labels(&names.collect::<Vec<_>>(), longest);
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let width = widest.max("queue".len());
    let title = format!(
        "{:<width$}  {:>9}  {:>9}  {:>7}  {:>9}",
        "queue", "pending", "running", "workers", "oldest"
    );
    let mut lines = vec![Line::styled(title, BOLD)];
    lines.extend(queues.iter().zip(&names).map(|(queue, name)| {
        let (pending, running) = (queue.pending_operations, queue.running_operations);
        let (workers, oldest) = (queue.workers, served::age(queue, now));
        let text =
            format!("{name:<width$}  {pending:>9}  {running:>9}  {workers:>7}  {oldest:>9}  ");
        let needs_attention = queue.unserved || queue.state() == QueueState::Paused;
        let style = if needs_attention { colour(State::Failed) } else { Style::new() };
        Line::from(vec![Span::raw(text), Span::styled(served::remarks(queue), style)])
    }));
    lines
}

/// A title, and the workers: those that hold most first.
fn worker_lines(workers: &[Worker], now: Timestamp) -> Vec<Line<'static>> {
    let mut workers: Vec<&Worker> = workers.iter().collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.held_count));
    let title = ["worker", "queue", "holds", "slots", "heard", "process", "server", ""];
    let rows = workers.into_iter().map(|worker| served::columns_of(worker, now));
    let rows: Vec<[String; 8]> = [title.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut lines = table::columns(&rows).into_iter();
    let title = lines.next().map(|title| Line::styled(title, BOLD));
    title.into_iter().chain(lines.map(Line::raw)).collect()
}

fn bar(fraction: Option<f64>, width: usize) -> String {
    match fraction {
        _ if width == 0 => String::new(),
        None => " ".repeat(width + 3),
        Some(fraction) => {
            let full = ((fraction * width as f64) as usize).min(width);
            format!("[{}{}] ", "#".repeat(full), "-".repeat(width - full))
        }
    }
}

fn details(board: &Board) -> Vec<Line<'static>> {
    match board.details() {
        Some(lines) => lines.map(|line| Line::raw(line.to_owned())).collect(),
        None => vec![Line::styled("loading ...", DIM)],
    }
}

fn keys_of(board: &Board) -> &'static str {
    match board.opened() {
        Some(_) => "esc back  up/down scroll  q quit",
        None => "up/down select  enter details  q quit",
    }
}

const fn colour(state: State) -> Style {
    match state {
        State::Running => Style::new().fg(Color::Cyan),
        State::Succeeded => Style::new().fg(Color::Green),
        State::Failed => Style::new().fg(Color::Red),
        State::Cancelled | State::Cancelling | State::Suspended => Style::new().fg(Color::Yellow),
        State::Pending | State::Unspecified => Style::new(),
    }
}

fn print(lines: Vec<Line<'static>>, area: Rect, buffer: &mut Buffer) {
    Paragraph::new(lines).render(area, buffer);
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);
