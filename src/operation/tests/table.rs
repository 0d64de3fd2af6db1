//! Prints what every state makes of every command, and holds `docs/state-machine.md` to it.

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
        "docs/state-machine.md is out of date: run the tests once with LONGHAUL_BLESS=1 and look at what changed"
    );
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
            None => "forgotten".to_owned(),
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

What each state makes of each command, printed by a test from the code (`src/operation/`). `=` means that nothing changes and
the answer is OK; *words in italics* refuse the command with that reason; `(unseen)` changes only what the server keeps for
itself. The sample operations have every timeout set, three attempts, and `TOKEN` as the token of their last lease. Time is
looked at an hour after the start, when everything but the retention of 30 days is due.
";
