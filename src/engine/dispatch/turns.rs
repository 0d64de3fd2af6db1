//! Whose turn it is: workers take the operations of a queue from its parents in turn.
//!
//! The members of a queue lie together by parent, so a range of the index is a set of parents. While no more is ready than a poll
//! has room for, a poll reads the whole index in one scan and takes all. Otherwise the dispatcher remembers the parents that it
//! met, and parts the index at them: each part ends with a parent, and shows any new parent that lies before it. One poll scans
//! as many parts as it has room for, at the same time, and then looks behind each new parent. The next poll goes on after them.

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::entries::{Turn, ready_place};
use crate::store::{Entry, Index, Scan};

/// The parents that have work in one queue, as its dispatcher knows them, and which had the last turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Empty while polls take everything that is ready.
    known: BTreeSet<Turn>,
    last: Option<Turn>,
    /// How many operations of the only known parent may still be taken before others are looked for.
    alone: usize,
    /// Parents whose operations the workers here do not get: they are left out of every part.
    barred: BTreeSet<Turn>,
}

/// One part of the index of a queue: what comes after `after`, up to and with the parent `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePart {
    after: Option<Turn>,
    through: Option<Turn>,
}

/// What one poll scans, and what it found so far.
#[derive(Debug)]
pub(super) struct QueueRound {
    /// The parts to scan now.
    pub(super) parts: Vec<QueuePart>,
    /// How many entries of each part at most.
    pub(super) limit: usize,
    /// How many operations the poll has room for.
    room: usize,
    /// Entries that no worker accepts: so many more are read and taken.
    unfit: usize,
    /// Which parent had the last turn: the round begins after it.
    last: Option<Turn>,
    /// Where the scanned parts end.
    end: Option<Turn>,
    /// Behind this parent, others may lie that were not looked for.
    gap: Option<Turn>,
    /// Whether parents are looked for that are not known yet.
    seeks: bool,
    scans: usize,
    found: BTreeMap<Turn, Vec<Entry>>,
    /// Known parents without work.
    idle: Vec<Turn>,
    /// Whether the scanned parts are all that there is.
    whole: bool,
    /// Whether a scanned part may hold more.
    cut: bool,
}

/// What one poll takes.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    /// The operations to take, in this order.
    pub(super) entries: Vec<Entry>,
    /// Whether more may be ready.
    pub(super) more: bool,
}

impl QueuePart {
    /// The scan of this part.
    pub(super) fn scan(self, index: Index, limit: usize) -> Scan {
        let mut scan = Scan::first(index, limit);
        if let Some(turn) = self.after {
            scan = scan.after_prefix(&turn);
        }
        if let Some(turn) = self.through {
            scan = scan.through_prefix(&turn);
        }
        scan
    }
}

impl QueueRound {
    /// Takes in what was found in each of the parts. Returns whether there are further parts to scan.
    pub(super) fn take_in(&mut self, found: Vec<Vec<Entry>>) -> bool {
        let mut further = Vec::new();
        for (part, entries) in std::mem::take(&mut self.parts).into_iter().zip(found) {
            let cut = entries.len() >= self.limit;
            self.cut |= cut;
            self.idle.extend(part.through.filter(|_| !cut));
            let last = entries.last().and_then(|entry| ready_place(&entry.member));
            for entry in entries {
                let turn = ready_place(&entry.member).map(|(turn, _)| turn).unwrap_or_default();
                self.found.entry(turn).or_default().push(entry);
            }
            // Behind the many operations of this parent there may be others.
            let behind =
                last.map(|(turn, _)| turn).filter(|turn| cut && Some(*turn) != part.through);
            further
                .extend(behind.map(|turn| QueuePart { after: Some(turn), through: part.through }));
        }
        if !self.seeks || further.is_empty() {
            return false;
        }
        let scans = self.scans + further.len();
        let gap = further.iter().filter_map(|part| part.after).min_by_key(|turn| self.place(*turn));
        let before_gap = self.found.keys().filter(|turn| !self.is_behind(**turn, gap)).count();
        if before_gap >= self.room.max(2) || scans > SCANS_AT_A_POLL {
            (self.whole, self.gap) = (false, gap);
            return false;
        }
        (self.parts, self.scans) = (further, scans);
        self.limit = (self.room / (self.found.len() + 1)).max(1) + self.unfit;
        true
    }

    /// The order of the parents in this round.
    fn place(&self, turn: Turn) -> (bool, Turn) {
        (self.last.is_some_and(|last| turn <= last), turn)
    }

    /// Whether a parent comes after a gap, if there is one.
    fn is_behind(&self, turn: Turn, gap: Option<Turn>) -> bool {
        gap.is_some_and(|gap| self.place(turn) > self.place(gap))
    }

    /// The entries of each parent that has its turn, in order.
    fn in_turn(&mut self) -> Vec<(Turn, Vec<Entry>)> {
        let mut in_turn: Vec<_> = std::mem::take(&mut self.found).into_iter().collect();
        in_turn.retain(|(turn, _)| !self.is_behind(*turn, self.gap));
        in_turn.sort_by_key(|(turn, _)| self.place(*turn));
        in_turn
    }
}

impl Turns {
    /// Whether more was ready than the last poll took, or could take.
    pub(super) fn has_backlog(&self) -> bool {
        !self.known.is_empty() || !self.barred.is_empty()
    }

    /// The next poll: room for so many operations, and so many entries that no worker accepts.
    pub(super) fn next(&self, room: usize, unfit: usize) -> QueueRound {
        let mut parts = self.parts();
        let most = match (self.known.len(), self.barred.len()) {
            // Both sides of an only parent, so that it is known to be the only one.
            (1, 0) => 2,
            // Not only parts beside those that are left out, in which nothing may ever be.
            (_, barred) => room.min(SCANS_AT_A_POLL) + barred,
        };
        let whole = parts.len() <= most;
        parts.truncate(most);
        let end = parts.last().and_then(|part| part.through);
        let mut round = QueueRound {
            limit: unfit + if whole { room.div_ceil(self.known.len().max(1)) } else { 1 },
            room,
            unfit,
            last: self.last,
            end,
            gap: None,
            seeks: self.alone == 0,
            scans: parts.len().saturating_sub(self.barred.len()),
            found: BTreeMap::new(),
            idle: Vec::new(),
            whole,
            cut: false,
            parts,
        };
        if self.barred.is_empty() && (self.known.is_empty() || self.alone > 0) {
            round.parts = vec![QueuePart { after: None, through: None }];
            (round.limit, round.scans, round.whole, round.end) = (room + unfit, 1, true, None);
        }
        round
    }

    /// The parts of the index, beginning after the last turn.
    fn parts(&self) -> Vec<QueuePart> {
        let met = self.known.len() + self.barred.len();
        let mut parts: Vec<QueuePart> = Vec::with_capacity(met + 1);
        let (mut after, mut begin) = (None, 0);
        for turn in self.known.union(&self.barred) {
            let is_barred = self.barred.contains(turn);
            let through = if is_barred { before(*turn) } else { Some(*turn) };
            // Nothing lies between a parent and the next.
            if through.is_some() && through != after {
                parts.push(QueuePart { after, through });
            }
            after = Some(*turn);
            if self.last.is_some_and(|last| *turn <= last) {
                begin = parts.len();
            }
        }
        parts.push(QueuePart { after, through: None });
        parts.rotate_left(begin);
        parts
    }

    /// Leaves out these parents from now on. Returns false if there are none, or too many to remember.
    pub(super) fn bar(&mut self, parents: &[Turn]) -> bool {
        let room = MAX_BARRED.saturating_sub(self.barred.len());
        let before = self.barred.len();
        self.barred.extend(parents.iter().take(room));
        self.known.retain(|turn| !self.barred.contains(turn));
        if !self.barred.is_empty() {
            self.alone = 0;
        }
        self.barred.len() > before
    }

    /// Decides what is taken of what was found, and remembers the parents.
    pub(super) fn deal(&mut self, mut round: QueueRound) -> Dealt {
        let count: usize = round.found.values().map(Vec::len).sum();
        let more = !round.whole || round.cut || count > round.room + round.unfit;
        if more {
            self.known.retain(|turn| !round.idle.contains(turn));
            let left = MAX_KNOWN.saturating_sub(self.known.len());
            self.known.extend(round.found.keys().copied().take(left));
        } else {
            self.known.clear();
        }
        let mut in_turn = round.in_turn();
        // Where not all parents have their turn in this poll, each has one operation.
        let room = if round.whole { round.room } else { round.room.min(in_turn.len()) };
        let room = room + round.unfit;
        in_turn.truncate(room);
        let (entries, last) = one_of_each_in_turn(in_turn, room);
        self.last = last.or(round.end);
        self.alone = match self.known.len() {
            1 if round.seeks && round.whole && self.barred.is_empty() => ALONE,
            1 => self.alone.saturating_sub(entries.len()),
            _ => 0,
        };
        Dealt { entries, more }
    }
}

/// The one before it; `None` for the first of all.
fn before(turn: Turn) -> Option<Turn> {
    u64::from_be_bytes(turn).checked_sub(1).map(u64::to_be_bytes)
}

/// One operation of each parent, then the second of each, and so on; at each time in the order of their ranks. Also returns
/// the parent that had the last turn.
fn one_of_each_in_turn(
    in_turn: Vec<(Turn, Vec<Entry>)>,
    room: usize,
) -> (Vec<Entry>, Option<Turn>) {
    let place = |entry: &Entry| ready_place(&entry.member);
    let mut queues: Vec<_> = in_turn.into_iter().map(|(_, entries)| entries.into_iter()).collect();
    let (mut dealt, mut last) = (Vec::with_capacity(room), None);
    while dealt.len() < room {
        let mut heads: Vec<Entry> = queues.iter_mut().filter_map(Iterator::next).collect();
        // The others have their turn first in the next poll.
        heads.truncate(room - dealt.len());
        let Some(end) = heads.last() else { break };
        last = place(end).map(|(turn, _)| turn);
        heads.sort_by_key(|entry| place(entry).map(|(_, rank)| rank));
        dealt.append(&mut heads);
    }
    (dealt, last)
}

/// Parts that one poll scans at most.
const SCANS_AT_A_POLL: usize = 64;
/// Operations of the only known parent that are taken before others are looked for.
const ALONE: usize = 64;
/// Parents that a dispatcher leaves out of its scans. Each poll reads operations of further parents that its workers may not get.
const MAX_BARRED: usize = 256;
/// Parents that a dispatcher remembers. Those beyond are met in the parts between them.
const MAX_KNOWN: usize = 4_096;

#[cfg(test)]
mod tests;
