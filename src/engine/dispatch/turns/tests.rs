//! Fairness between the parents of a queue, against a model of one: a set of members.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operation::entries::{ready_member, turn_of};
use crate::store::Partition;

/// The ready operations of a queue, and how often it was scanned.
#[derive(Default)]
struct Queue {
    members: BTreeSet<Vec<u8>>,
    started: u64,
    scans: usize,
}

impl Queue {
    fn start(&mut self, parent: usize, rank: i64) {
        self.started += 1;
        let key = u128::from(self.started).to_be_bytes();
        self.members.insert(ready_member(&parent.to_string(), rank, &key));
    }

    fn scan(&mut self, scan: &Scan) -> Vec<Entry> {
        self.scans += 1;
        let entry =
            |member: &Vec<u8>| Entry { member: member.clone().into(), partition: Partition(0) };
        let range =
            (scan.from.clone().map(|from| from.to_vec()), scan.to.clone().map(|to| to.to_vec()));
        self.members.range(range).take(scan.limit).map(entry).collect()
    }

    /// One poll of workers that get nothing of some parents: what it took, and whether another poll is due at once.
    fn poll_without(
        &mut self,
        denied: &[Turn],
        turns: &mut Turns,
        room: usize,
    ) -> (Vec<Turn>, bool) {
        let before = self.members.clone();
        let (taken, more) = self.poll(turns, room);
        let (foreign, own): (Vec<Turn>, Vec<Turn>) =
            taken.iter().map(|(turn, _)| *turn).partition(|turn| denied.contains(turn));
        let is_foreign =
            |member: &[u8]| ready_place(member).is_some_and(|(turn, _)| denied.contains(&turn));
        self.members.extend(before.into_iter().filter(|member| is_foreign(member)));
        let learned = turns.bar(&foreign);
        (own, more || learned)
    }

    /// One poll; the parents and the ranks of what it took, in order, and whether more is ready.
    fn poll(&mut self, turns: &mut Turns, room: usize) -> (Vec<(Turn, i64)>, bool) {
        loop {
            let mut round = turns.next(room, 0);
            loop {
                let index = Index::new("ready/q");
                let scans = round.parts.iter();
                let scans = scans.map(|part| part.scan(index.clone(), round.limit));
                let found = scans.map(|scan| self.scan(&scan)).collect();
                if !round.take_in(found) {
                    break;
                }
            }
            let dealt = turns.deal(round);
            if dealt.entries.is_empty() && dealt.more {
                continue;
            }
            assert!(dealt.entries.len() <= room);
            for entry in &dealt.entries {
                assert!(self.members.remove(&entry.member[..]), "taken twice");
            }
            let taken = dealt.entries.iter().map(|entry| ready_place(&entry.member));
            return (taken.map(|place| place.expect("a place")).collect(), dealt.more);
        }
    }
}

/// As many parents as given, each with so many operations.
fn backlog(parents: usize, each: i64) -> Queue {
    let mut queue = Queue::default();
    for parent in 0..parents {
        (0..each).for_each(|rank| queue.start(parent, rank));
    }
    queue
}

/// The leases until a newcomer's first operation is leased, with the poll that was under way when it was started.
fn leases_until_a_newcomer_runs(parents: usize, room: usize, polls_before: usize) -> usize {
    let mut queue = backlog(parents, (3 * room + 2 * ALONE) as i64);
    let mut turns = Turns::default();
    for _ in 0..polls_before {
        queue.poll(&mut turns, room);
    }
    // The poll under way does not see it.
    let mut leases = queue.poll(&mut turns, room).0.len();
    queue.start(usize::MAX, 0);
    let newcomer = turn_of(&usize::MAX.to_string());
    loop {
        for (turn, _) in queue.poll(&mut turns, room).0 {
            leases += 1;
            if turn == newcomer {
                return leases;
            }
        }
    }
}

#[test]
fn a_newcomer_runs_within_two_leases_of_each_parent_and_two_polls() {
    let few = [1, 2, 7, 70].map(|parents| [1, 5, 256].map(|room| (parents, room)));
    for (parents, room) in few.into_iter().flatten().chain([(300, 64)]) {
        for polls_before in [0, 1, 3] {
            let leases = leases_until_a_newcomer_runs(parents, room, polls_before);
            let bound = 2 * (parents + 1) + 2 * room.max(ALONE);
            assert!(leases <= bound, "{parents} parents, room {room}: {leases} > {bound}");
        }
    }
}

#[test]
fn newcomers_run_soon_one_after_the_other_wherever_they_lie() {
    let (mut queue, mut turns) = (backlog(1, 100_000), Turns::default());
    for parent in 1..200 {
        for _ in 0..20 {
            queue.poll(&mut turns, 1);
        }
        queue.start(parent, 0);
        let newcomer = turn_of(&parent.to_string());
        let is_newcomer = |taken: Vec<(Turn, i64)>| taken.iter().any(|(turn, _)| *turn == newcomer);
        let polls =
            (0..3 * ALONE).take_while(|_| !is_newcomer(queue.poll(&mut turns, 1).0)).count();
        assert!(polls <= 2 * 2 + 2 * ALONE, "{polls} leases before newcomer {parent}");
    }
}

#[test]
fn a_queue_with_one_parent_is_polled_with_one_scan_nearly_always() {
    let (mut queue, mut turns) = (backlog(1, 10_000), Turns::default());
    for _ in 0..5_000 {
        queue.poll(&mut turns, 1);
    }
    assert!(queue.scans <= 5_000 + 2 * 5_000 / ALONE + 2, "{} scans", queue.scans);
    // Nothing but one scan where a poll takes all.
    let (mut queue, mut turns) = (backlog(1, 100), Turns::default());
    queue.poll(&mut turns, 256);
    for _ in 0..10 {
        (0..3).for_each(|parent| queue.start(parent, 0));
        assert_eq!(queue.poll(&mut turns, 4).0.len(), 3);
    }
    assert_eq!(queue.scans, 11);
}

#[test]
fn a_parent_s_own_work_comes_in_the_order_of_its_ranks_and_heads_of_one_round_too() {
    let mut queue = Queue::default();
    for (parent, rank) in [(0, 5), (0, -5), (0, 7), (1, 1), (1, -9), (2, 3)] {
        queue.start(parent, rank);
    }
    let mut turns = Turns::default();
    let taken = queue.poll(&mut turns, 6).0;
    let ranks: Vec<i64> = taken.iter().map(|(_, rank)| *rank).collect();
    assert_eq!(ranks, [-9, -5, 3, 1, 5, 7]);
}

#[test]
fn parents_that_are_left_out_cost_one_look_each_and_hide_nothing() {
    let (mut queue, mut turns) = (backlog(40, 1_000), Turns::default());
    let denied: Vec<Turn> = (1..40).map(|parent| turn_of(&parent.to_string())).collect();
    let mut taken = 0;
    while taken < 1_000 {
        let (own, more) = queue.poll_without(&denied, &mut turns, 1);
        assert!(more || taken + own.len() == 1_000);
        taken += own.len();
    }
    assert!(!queue.poll_without(&denied, &mut turns, 1).1, "nothing is left for these workers");
    assert_eq!(queue.members.len(), 39 * 1_000);
    // Another operation of their own is found at once.
    queue.start(0, 0);
    assert_eq!(queue.poll_without(&denied, &mut turns, 1).0, [turn_of("0")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No parent with work has more than one turn ahead of another, but for what one poll takes at once.
    #[test]
    fn every_parent_has_its_turn(
        parents in 1_usize..90,
        rooms in prop::collection::vec(1_usize..80, 1..25),
    ) {
        let total: usize = rooms.iter().sum();
        let mut queue = backlog(parents, (total + rooms[0]) as i64 + 1);
        let mut turns = Turns::default();
        let mut had: BTreeMap<Turn, usize> = BTreeMap::new();
        let mut last_rank: BTreeMap<Turn, i64> = BTreeMap::new();
        // The first poll cannot know of more than it has room for.
        queue.poll(&mut turns, rooms[0]);
        let mut taken = 0;
        for room in &rooms {
            let (leases, more) = queue.poll(&mut turns, *room);
            prop_assert!(more && !leases.is_empty());
            taken += leases.len();
            for (turn, rank) in leases {
                *had.entry(turn).or_default() += 1;
                let before = last_rank.insert(turn, rank);
                prop_assert!(before.is_none_or(|before| before < rank));
            }
        }
        let most = had.values().max().copied().unwrap_or_default();
        let largest = rooms.iter().max().copied().unwrap_or_default();
        // A parent that is not met yet has had none.
        let fair = taken / parents + 2 + largest.max(ALONE);
        prop_assert!(most <= fair, "{most} of {taken} for one of {parents} parents");
    }

    /// Workers that get operations of some parents get all of these and no others.
    #[test]
    fn whatever_is_left_out_the_rest_is_taken(
        starts in prop::collection::vec((0_usize..40, -9_i64..9), 0..200),
        allowed in prop::collection::btree_set(0_usize..40, 0..8),
        room in 1_usize..20,
    ) {
        let (mut queue, mut turns) = (Queue::default(), Turns::default());
        let denied = (0..40_usize).filter(|parent| !allowed.contains(parent));
        let denied: Vec<Turn> = denied.map(|parent| turn_of(&parent.to_string())).collect();
        let wanted = starts.iter().filter(|(parent, _)| allowed.contains(parent)).count();
        for (parent, rank) in &starts {
            queue.start(*parent, *rank);
        }
        let (mut taken, mut polls) = (0, 0);
        loop {
            let (own, more) = queue.poll_without(&denied, &mut turns, room);
            taken += own.len();
            polls += 1;
            prop_assert!(polls < 1_000, "it ends");
            if !more && own.is_empty() {
                break;
            }
        }
        prop_assert_eq!(taken, wanted);
        prop_assert_eq!(queue.members.len(), starts.len() - wanted);
    }

    /// Everything that is ready is taken some time, and once, whoever comes and goes.
    #[test]
    fn nothing_is_left_and_quiet_means_that_nothing_is(
        steps in prop::collection::vec((prop::collection::vec((0_usize..40, -9_i64..9), 0..30), 1_usize..20), 1..40),
    ) {
        let (mut queue, mut turns) = (Queue::default(), Turns::default());
        for (starts, room) in steps {
            for (parent, rank) in starts {
                queue.start(parent, rank);
            }
            let (_, more) = queue.poll(&mut turns, room);
            prop_assert!(more || queue.members.is_empty());
        }
        let mut polls = 0;
        while queue.poll(&mut turns, 7).1 {
            polls += 1;
            prop_assert!(polls < 5_000);
        }
        prop_assert!(queue.members.is_empty());
    }
}
