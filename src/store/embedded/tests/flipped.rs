//! One flipped bit at any place: the damaged file is named, or all data is readable.

use super::*;

#[tokio::test]
async fn a_flipped_bit_in_any_file_is_named_with_what_to_do_or_costs_nothing_else() {
    let directory = TempDir::new().expect("a temporary directory");
    let store = open(directory.path()).expect("a new store");
    write(&store, 0..20).await;
    store.flush();
    write(&store, 20..30).await;
    drop(store);
    for (path, bytes) in files(directory.path()) {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in places(end) {
            let damaged = copy(directory.path());
            let damaged_path =
                damaged.path().join(path.strip_prefix(directory.path()).expect("below"));
            let file = fs::File::options().write(true).open(&damaged_path).expect("opened");
            let flipped = bytes[at] ^ (1 << (at % 8));
            std::os::unix::fs::FileExt::write_all_at(&file, &[flipped], at as u64)
                .expect("flipped");
            outcome(damaged.path(), &format!("byte {at} of {end} of {}", damaged_path.display()))
                .await;
        }
    }
}

/// Some in the middle, and those where formats begin and end.
fn places(end: usize) -> impl Iterator<Item = usize> {
    let spread = (0..5).map(move |step| end * step / 5);
    let last = [1, 7, 20].into_iter().map(move |back| end.saturating_sub(back));
    let mut all: Vec<usize> = spread.chain(last).filter(|at| *at < end).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

async fn outcome(directory: &Path, what: &str) {
    // Also the second time: an attempt must not make it look whole.
    for _ in 0..2 {
        match open(directory) {
            Err(refusal) => {
                let said = refusal.to_string();
                let place = directory.display().to_string();
                assert!(said.contains(&place), "{what}: {said}");
            }
            Ok(store) => {
                let keys = (0..30_u64).map(|number| store.keyspace().key(&number.to_string()));
                let mut lost = 0;
                for key in keys {
                    match store.get(&[key]).await {
                        Ok(found) => assert!(found[0].is_some(), "{what}: lost without a word"),
                        Err(StoreError::Damaged(_)) => lost += 1,
                        Err(error) => panic!("{what}: {error}"),
                    }
                }
                assert!(lost < 30, "{what}: everything is lost");
                store.close().await;
            }
        }
    }
}
