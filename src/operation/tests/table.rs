//! Prints the result of every command in every state, and compares it with `docs/state-machine.md`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::samples::{
    END, LEASE, START, TOKEN, adopt, complete, delete, disown, due, fail, pause, release,
    release_of_stream, renew, report, resume, resume_with, states, suspend, take,
};
use crate::operation::command::{Cancel, Command};
use crate::operation::entries::DueClass;
use crate::operation::lease::Token;
use crate::operation::{Applied, Record, Rejection, apply};

#[test]
fn the_documented_table_is_what_the_code_does() {
    let page = page();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state-machine.md");
    if std::env::var_os("LONGHAUL_BLESS").is_some() {
        std::fs::write(path, &page).expect("write the page");
    }
    let documented = std::fs::read_to_string(path).expect("docs/state-machine.md");
    assert!(
        documented == page,
        "docs/state-machine.md is out of date: run the tests once with LONGHAUL_BLESS=1 and read the difference"
    );
}

#[test]
fn every_command_has_a_column() {
    let commands = [workers(), callers(), time()].concat();
    let shown: BTreeSet<String> = commands.iter().map(|(_, command)| variant(command)).collect();
    assert_eq!(shown, variants());
}

/// The name of a command's variant.
fn variant(command: &Command) -> String {
    format!("{command:?}").chars().take_while(|letter| letter.is_alphabetic()).collect()
}

/// The names of all variants, read from the source: a list here could be forgotten.
fn variants() -> BTreeSet<String> {
    let source = include_str!("../command.rs");
    let (_, body) = source.split_once("pub enum Command {").expect("the commands");
    let (body, _) = body.split_once("\n}").expect("their end");
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines
        .filter_map(|line| line.split(['(', ',', ' ']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (title, commands) in [("Workers", workers()), ("Callers", callers()), ("Time", time())] {
        write!(page, "\n## {title}\n\n| state |").expect("write");
        for (name, _) in &commands {
            write!(page, " {name} |").expect("write");
        }
        page.push_str("\n|---|");
        page.push_str(&"---|".repeat(commands.len()));
        for (state, record) in states() {
            write!(page, "\n| **{state}** |").expect("write");
            for (_, command) in &commands {
                let now = if matches!(command, Command::Due(_)) { END + 2 * LEASE } else { START };
                write!(page, " {} |", outcome(&record, command, now)).expect("write");
            }
        }
        page.push('\n');
    }
    page
}

fn outcome(record: &Record, command: &Command, now: crate::clock::Timestamp) -> String {
    match apply(record, command, now) {
        Ok(Applied::Unchanged(_)) => "=".to_owned(),
        Ok(Applied::Changed(change)) => match &change.record {
            None => "removed".to_owned(),
            Some(Record::Tombstone(tombstone)) => {
                format!("tombstone, {}", if tombstone.deleted { "deleted" } else { "expired" })
            }
            Some(Record::Operation(operation)) => {
                let retry = if matches!(&operation.state, crate::operation::State::Pending(pending) if pending.retrying)
                {
                    ", retrying"
                } else {
                    ""
                };
                let hidden = if operation.deletion.is_some() { ", deleted" } else { "" };
                let pause = if operation.pause_requested { ", pause requested" } else { "" };
                let quiet = if change.visible { "" } else { " (unseen)" };
                format!("{}{retry}{pause}{hidden}{quiet}", operation.state.name())
            }
        },
        Err(rejection) => format!("*{}*", word(&rejection)),
    }
}

const fn word(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Deleted(_) => "OPERATION_DELETED",
        Rejection::Expired(_) => "OPERATION_EXPIRED",
        Rejection::LeaseLost { .. } => "LEASE_LOST",
        Rejection::InvalidState { .. } => "INVALID_STATE",
        Rejection::TypeMismatch { .. } => "TYPE_MISMATCH",
        Rejection::EtagMismatch { .. } => "ETAG_MISMATCH",
        Rejection::LimitExceeded { .. } => "LIMIT_EXCEEDED",
        Rejection::DeadlinePassed { .. } => "INVALID_ARGUMENT",
        Rejection::NotReady(_) => "not ready",
    }
}

fn workers() -> Vec<(&'static str, Command)> {
    let other = Token([8; 16]);
    vec![
        ("Lease", take(other)),
        ("Renew", Command::Renew(renew(TOKEN))),
        ("Adopt", adopt(TOKEN)),
        ("Disown", disown(TOKEN, [1; 8])),
        ("Disown, another's stream", disown(TOKEN, [9; 8])),
        ("Report", report(TOKEN, 1)),
        ("Complete", complete(TOKEN)),
        ("Fail, final", fail(TOKEN, 3, None)),
        ("Fail, retryable", fail(TOKEN, 14, None)),
        ("Fail, CANCELLED", fail(TOKEN, 1, None)),
        ("Release", release(TOKEN, true)),
        ("Release, another's stream", release_of_stream(TOKEN, [9; 8])),
        ("Suspend", suspend(TOKEN, None)),
        ("Complete, another's token", complete(other)),
    ]
}

fn callers() -> Vec<(&'static str, Command)> {
    vec![
        ("Cancel", Command::Cancel(Cancel::default())),
        ("Delete", delete(5)),
        ("Pause", pause_again()),
        ("Resume", resume(6)),
        ("Resume with input", resume_with(6, "yes")),
    ]
}

/// A pause that no sample was paused by.
fn pause_again() -> Command {
    match pause() {
        Command::Pause(pause) => {
            Command::Pause(crate::operation::command::Pause { nonce: [4; 8], ..pause })
        }
        other => other,
    }
}

fn time() -> Vec<(&'static str, Command)> {
    DueClass::ALL.into_iter().map(|class| (class.as_str(), due(class))).collect()
}

const INTRODUCTION: &str = "# The state machine

The result of each command in each state, printed by a test from the code (`src/operation/`). `=` means that nothing changes
and the call succeeds; *words in italics* are the reason of a refusal; `(unseen)` changes only fields that callers do not see.
The sample operations have every timeout set, three attempts, and `TOKEN` as the token of their last lease. In rows whose lease
has ended, a call of the worker ended it; after the server ended a lease that expired, calls with its token are LEASE_LOST. Until
then the operation is RUNNING. Adopt: a Hello names the lease. Disown: the stream of the lease broke. Due entries are processed
an hour after the start, when all times except the retention of 30 days have come.
";
