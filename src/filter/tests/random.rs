//! What holds of all filters. `make fuzz` runs many more cases than `make test`.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::filter::condition::{STATES, is_done};
use crate::filter::parse::parse;
use crate::filter::syntax::{At, Comparator, Expr, Left, Test as Parsed, Word};

/// Words with whatever may be in them: quotes, backslashes, wildcards, keywords.
fn word() -> impl Strategy<Value = Word> {
    let letter = prop_oneof![
        4 => "[a-z0-9]",
        1 => select(vec![r"\*", r"\\", "*", "\"", "'", " ", ".", ":", "-", "(", ")", ",", "=", "@", "\n", "\u{fc}"])
            .prop_map(str::to_owned),
    ];
    prop_oneof![
        6 => proptest::collection::vec(letter, 0..8).prop_map(|letters| letters.concat()),
        1 => select(vec!["AND", "OR", "NOT", "true", "-5", "1e9", "*"]).prop_map(str::to_owned),
    ]
    .prop_map(Word::escaped)
}

fn left() -> impl Strategy<Value = Left> {
    let words = |most: usize| proptest::collection::vec(word(), 0..most);
    prop_oneof![
        (word(), words(3)).prop_map(|(first, rest)| Left::Path([vec![first], rest].concat())),
        ("[a-z]{1,6}(\\.[a-z]{1,6})?", words(3)).prop_map(|(name, words)| Left::Call(name, words)),
    ]
}

fn tree() -> impl Strategy<Value = Expr> {
    let right = (select(Comparator::ALL.to_vec()), word());
    let test = (left(), proptest::option::weighted(0.8, right)).prop_map(|(left, right)| {
        let right = right.map(|(comparator, word)| (comparator, word, At(0)));
        Expr::Test(Parsed { left, at: At(0), right })
    });
    test.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Expr::all),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Expr::any),
            inner.prop_map(Expr::not),
        ]
    })
}

/// A filter that a simpler program understands, too.
#[derive(Clone, Debug)]
enum Simple {
    State(bool, State),
    Done(bool),
    Label(&'static str, Comparator, &'static str),
    Created(Comparator, u64),
    Progress(Comparator, u8),
    Queue(&'static str),
    Code(Comparator, i32),
    Not(Box<Simple>),
    All(Vec<Simple>),
    Any(Vec<Simple>),
}

impl Simple {
    /// As text, written with or without the optional parts.
    fn text(&self, terse: bool) -> String {
        let join = |parts: &[Self], between: &str| {
            let parts: Vec<_> = parts.iter().map(|part| part.text(terse)).collect();
            format!("({})", parts.join(between))
        };
        match self {
            Self::State(true, state) => format!("state() = {}", state.as_str_name()),
            Self::State(false, state) => format!("state() != {}", state.as_str_name()),
            Self::Done(done) => format!("done = {done}"),
            Self::Label(key, by, value) => format!("label(\"{key}\") {} \"{value}\"", by.as_str()),
            Self::Created(by, seconds) => {
                format!("create_time() {} 1970-01-01T00:00:0{seconds}Z", by.as_str())
            }
            Self::Progress(by, tenths) => format!("progress() {} 0.{tenths}", by.as_str()),
            Self::Queue(queue) => format!("queue() = {queue}"),
            Self::Code(by, code) => format!("error.code {} {code}", by.as_str()),
            Self::Not(part) if terse => format!("-({})", part.text(terse)),
            Self::Not(part) => format!("NOT ({})", part.text(terse)),
            Self::All(parts) => join(parts, if terse { " " } else { " AND " }),
            Self::Any(parts) => join(parts, " OR "),
        }
    }

    /// Whether it holds, said in the plainest way.
    fn holds(&self, sample: &Sample) -> bool {
        match self {
            Self::State(same, state) => (sample.state == *state) == *same,
            Self::Done(done) => is_done(sample.state) == *done,
            Self::Label(key, by, value) => {
                sample.labels.get(*key).is_some_and(|label| plainly(*by, &**label, value))
            }
            Self::Created(by, seconds) => {
                plainly(*by, &sample.create_time.as_micros(), &(seconds * 1_000_000))
            }
            Self::Progress(by, tenths) => sample
                .progress
                .is_some_and(|done| plainly(*by, &done, &(f64::from(*tenths) / 10.0))),
            Self::Queue(queue) => sample.queue == *queue,
            Self::Code(by, code) => {
                sample.error.as_ref().is_some_and(|error| plainly(*by, &error.code, code))
            }
            Self::Not(part) => !part.holds(sample),
            Self::All(parts) => parts.iter().all(|part| part.holds(sample)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(sample)),
        }
    }
}

fn plainly<T: PartialOrd + ?Sized>(by: Comparator, one: &T, other: &T) -> bool {
    match by {
        Comparator::AtMost => one <= other,
        Comparator::Less => one < other,
        Comparator::AtLeast => one >= other,
        Comparator::More => one > other,
        Comparator::Differs => one != other,
        Comparator::Equals | Comparator::Has => one == other,
    }
}

fn simple() -> impl Strategy<Value = Simple> {
    let by = || select(Comparator::ALL.to_vec());
    let (keys, values) = (select(vec!["team", "none"]), select(vec!["red", "blue", ""]));
    let test = prop_oneof![
        (any::<bool>(), select(STATES.to_vec()))
            .prop_map(|(same, state)| Simple::State(same, state)),
        any::<bool>().prop_map(Simple::Done),
        (keys, by(), values).prop_map(|(key, by, value)| Simple::Label(key, by, value)),
        (by(), 0..10_u64).prop_map(|(by, seconds)| Simple::Created(by, seconds)),
        (by(), 0..10_u8).prop_map(|(by, tenths)| Simple::Progress(by, tenths)),
        select(vec!["a", "b"]).prop_map(Simple::Queue),
        (by(), 7..10_i32).prop_map(|(by, code)| Simple::Code(by, code)),
    ];
    test.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| Simple::Not(Box::new(part))),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Simple::All),
            proptest::collection::vec(inner, 1..4).prop_map(Simple::Any),
        ]
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let labels = proptest::collection::btree_map(
        Just("team".to_owned()),
        select(vec!["red", "blue", ""]).prop_map(str::to_owned),
        0..2,
    );
    let progress = proptest::option::of((0..10_u8).prop_map(|tenths| f64::from(tenths) / 10.0));
    let queue = select(vec!["a", "b"]);
    (select(STATES.to_vec()), 0..10_u64, progress, labels, queue, 7..10_i32).prop_map(
        |(state, seconds, progress, labels, queue, code)| Sample {
            state,
            create_time: Timestamp::from_micros(seconds * 1_000_000),
            progress,
            labels,
            queue: queue.to_owned(),
            error: matches!(state, State::Failed | State::Cancelled)
                .then(|| Status { code, ..Status::default() }),
            ..Sample::running()
        },
    )
}

/// Whether reading by that access would come across the operation.
fn reads(access: &Access, sample: &Sample) -> bool {
    match access {
        Access::Nothing => false,
        Access::Name(name) => sample.name == *name,
        Access::List(times) => times.contains(&sample.create_time),
        Access::Failed(times) => {
            sample.state == State::Failed && times.contains(&sample.create_time)
        }
        Access::Unfinished(times) => !is_done(sample.state) && times.contains(&sample.create_time),
        Access::Leased => matches!(sample.state, State::Running | State::Cancelling),
        Access::Waiting(queue) => sample.state == State::Pending && sample.queue == *queue,
    }
}

proptest! {
    #[test]
    fn a_canonical_text_is_parsed_to_the_tree_that_it_was_printed_from(tree in tree()) {
        let text = tree.to_string();
        prop_assert_eq!(parse(&text), Ok(Some(tree)), "{}", text);
    }

    #[test]
    fn a_filter_matches_what_a_plain_reading_of_it_matches(
        simple in simple(),
        terse in any::<bool>(),
        sample in sample(),
    ) {
        let text = simple.text(terse);
        let filter = filter(&text);
        let expected = if simple.holds(&sample) { Verdict::Match } else { Verdict::NoMatch };
        prop_assert_eq!(filter.test(&sample), expected, "{}", text);
        prop_assert_eq!(super::filter(filter.canonical()).test(&sample), expected);

        // What the plan reads and then tests is just what matches.
        let plan = plan(&filter, Order::default());
        let found = reads(&plan.access, &sample) && plan.residual.test(&sample) == Verdict::Match;
        prop_assert_eq!(found, expected == Verdict::Match, "{} by {:?}", text, plan.access);
    }

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![any::<String>(), pieces()]) {
        drop(Order::parse(&text));
        if let Ok(filter) = Filter::parse(&text, &TYPES) {
            for sample in [Sample::running(), Sample::failed()] {
                let again = super::filter(filter.canonical());
                prop_assert_eq!(again.canonical(), filter.canonical());
                prop_assert_eq!(again.test(&sample), filter.test(&sample));
                plan(&filter, Order::default());
            }
        }
    }
}

/// Texts that are almost filters.
fn pieces() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "name",
        "done",
        "metadata",
        "metadata.count",
        "metadata.extra.deep",
        "metadata.@type",
        "metadata.items.sku",
        "error.details",
        "request.",
        "state()",
        "create_time()",
        "label(\"team\")",
        "progress()",
        ".",
        ":",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "(",
        ")",
        ",",
        "-",
        "*",
        "\"",
        "'",
        "\\",
        " ",
        " ",
        " ",
        " AND ",
        " OR ",
        "NOT ",
        "true",
        "RUNNING",
        "42",
        "1.5s",
        "-7",
        "1e400",
        "2030-01-31T12:00:00Z",
        "9999-12-31T23:59:60+23:59",
        "9223372036854775808s",
        "shop.Job",
        "\u{fc}",
        "99999999999999999999999999999999999999999999",
        "\0",
    ]);
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}
