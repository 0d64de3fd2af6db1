//! Pending content of the next message of a stream.

use std::collections::VecDeque;
use std::time::Duration;

use super::messages::{CallOutcome, Signal, StreamResponse, Welcome};
use crate::engine::leases::leased::Leased;
use crate::limits::{MAX_LEASES, MAX_REPLY_BYTES};
use crate::store::Key;

/// Gathers until there is room for a message.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) welcome: Option<Welcome>,
    pub(super) leases: VecDeque<(Key, Leased)>,
    pub(super) signals: VecDeque<Signal>,
    pub(super) outcomes: VecDeque<CallOutcome>,
    pub(super) drain_duration: Option<Duration>,
    /// All requests up to this one are handled.
    pub(super) handled: i64,
    /// The worker waits for this confirmation.
    pub(super) owes: bool,
}

impl Ready {
    /// Whether the content is worth a message of its own.
    pub(super) fn is_worth_saying(&self) -> bool {
        self.owes
            || self.welcome.is_some()
            || self.drain_duration.is_some()
            || !(self.leases.is_empty() && self.signals.is_empty() && self.outcomes.is_empty())
    }

    /// As much as goes into one message; `holds` tells whether that very lease still lives.
    pub(super) fn compose(
        &mut self,
        sequence: i64,
        mut holds: impl FnMut(Key, &Leased) -> bool,
    ) -> StreamResponse {
        let mut room = MessageRoom::default();
        let mut response = StreamResponse {
            sequence,
            welcome: self.welcome.take(),
            drain_duration: self.drain_duration.take(),
            ..StreamResponse::default()
        };
        if let Some(welcome) = &response.welcome {
            room.take(welcome.lost.iter().map(|name| name.len() + FIXED).sum());
        }
        while let Some(outcome) = self.outcomes.pop_front() {
            if !room.take(outcome_weight(&outcome)) {
                self.outcomes.push_front(outcome);
                break;
            }
            response.outcomes.push(outcome);
        }
        while let Some(signal) = self.signals.pop_front() {
            if !room.take(signal.name.as_str().len() + FIXED) {
                self.signals.push_front(signal);
                break;
            }
            response.signals.push(signal);
        }
        while let Some((key, leased)) = self.leases.pop_front() {
            let fits = response.leases.len() < MAX_LEASES && room.take(leased.weight());
            if !fits {
                self.leases.push_front((key, leased));
                break;
            }
            if holds(key, &leased) {
                response.leases.push(leased);
            }
        }
        // News of a call come with its acknowledgement or before it.
        let unsaid = self.outcomes.iter().map(|outcome| outcome.sequence).find(|call| *call > 0);
        response.acknowledged_sequence = unsaid.map_or(self.handled, |sequence| sequence - 1);
        self.owes = unsaid.is_some();
        response
    }
}

/// The space left in a message.
#[derive(Default)]
struct MessageRoom {
    taken: usize,
}

impl MessageRoom {
    /// One item always fits.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.taken == 0 || self.taken + bytes <= MAX_REPLY_BYTES;
        if fits {
            self.taken += bytes;
        }
        fits
    }
}

fn outcome_weight(outcome: &CallOutcome) -> usize {
    let error = outcome.error.as_ref().map_or(0, |error| {
        let metadata: usize =
            error.metadata.iter().map(|(key, value)| key.len() + value.len() + FIXED).sum();
        // Its text is in the message and in a detail.
        2 * error.message.len() + metadata + 2 * outcome.name.len()
    });
    outcome.name.len() + error + FIXED
}

/// Upper estimate of the size of a small item.
const FIXED: usize = 128;
