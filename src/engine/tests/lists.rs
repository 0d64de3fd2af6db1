use std::time::Duration;

use super::super::{ListQuery, Listed, Reaper};
use super::{Bench, caller, request};
use crate::filter::{Filter, Order};
use crate::limits::MAX_LIST_SORTED;
use crate::operation::Start;
use crate::operation::name::{Parent, ParentPattern};

fn query(bench: &Bench, parent: &str, page_size: usize) -> ListQuery {
    ListQuery {
        parent: ParentPattern::parse(parent).expect("parent"),
        filter: Filter::parse("", bench.engine.types()).expect("filter"),
        order: Order::default(),
        page_size,
        page_token: String::new(),
        partial: false,
        listed: Listed::Operations,
    }
}

async fn pages(bench: &Bench, parent: &str, page_size: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let query = ListQuery { page_token, ..query(bench, parent, page_size) };
        let page = bench.engine.list(&caller(), query).await.expect("page");
        pages.push(page.views.iter().map(|view| view.operation.name.to_string()).collect());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_page_larger_than_what_is_read_at_a_time_is_whole() {
    let bench = Bench::new();
    for number in 0..250 {
        bench.start(&format!("n{number}")).await;
    }
    bench.engine.delete(&caller(), &super::name("n17")).await.expect("delete");
    let pages = pages(&bench, "", 240).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [240, 9]);
    let mut all = pages.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 249);
}

#[tokio::test]
async fn a_pattern_looks_at_so_many_parents_at_a_time_and_misses_none() {
    let bench = Bench::new();
    let start = async |parent: String| {
        let request = Start { parent: Parent::parse(&parent).expect("parent"), ..request("x") };
        bench.engine.start_operation(&caller(), request).await.expect("start");
    };
    for number in 0..2_100 {
        start(format!("projects/p{number:04}/other/o")).await;
    }
    for number in [999, 1_000, 1_001, 2_099] {
        start(format!("projects/p{number:04}/wanted/w")).await;
    }
    let pages = pages(&bench, "projects/-/wanted/-", 2).await;
    assert!(pages.len() > 2, "{pages:?}");
    let expected = [999, 1_000, 1_001, 2_099]
        .map(|number| format!("projects/p{number:04}/wanted/w/operations/x"));
    assert_eq!(pages.concat(), expected);
    assert_eq!(self::pages(&bench, "-", 999).await.concat().len(), 2_104);
}

#[tokio::test]
async fn more_failures_than_a_page_may_sort_are_read_in_the_order_of_the_list() {
    let bench = Bench::new();
    let count = MAX_LIST_SORTED + 10;
    for number in 0..count {
        let mut wanted = request(&format!("n{number:05}"));
        // Those that were started last fail first.
        let left = Duration::from_millis((2 * count - number) as u64);
        wanted.spec.options.queue_timeout = Some(left);
        bench.engine.start_operation(&caller(), wanted).await.expect("start");
        // No two have the same create time.
        bench.clock.advance(Duration::from_micros(1));
    }
    bench.start("pending").await;
    bench.clock.advance(Duration::from_mins(1));
    // The server's own agent takes part.
    let waiting = Filter::parse("state() = PENDING", bench.engine.types()).expect("filter");
    loop {
        Reaper.run_once(&bench.engine).await.expect("a sweep");
        let query = ListQuery { filter: waiting.clone(), ..query(&bench, "", 2) };
        if bench.engine.list(&caller(), query).await.expect("page").views.len() == 1 {
            break;
        }
    }

    let filter = Filter::parse("state() = FAILED", bench.engine.types()).expect("filter");
    for (order, first) in [(Order::NewestFirst, count - 1), (Order::OldestFirst, 0)] {
        let query = ListQuery { filter: filter.clone(), order, ..query(&bench, "", 3) };
        let mut found = Vec::new();
        let mut page_token = String::new();
        for _ in 0..3 {
            let query = ListQuery { page_token, ..query.clone() };
            let page = bench.engine.list(&caller(), query).await.expect("page");
            assert_eq!(page.index, "failed");
            found.extend(page.views.iter().map(|view| view.operation.name.to_string()));
            page_token = page.next_page_token;
        }
        let wanted = (0..9).map(|nth| format!("operations/n{:05}", first.abs_diff(nth)));
        assert_eq!(found, wanted.collect::<Vec<_>>());
    }
}
