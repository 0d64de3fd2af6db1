//! `longhaul export` and `longhaul import` as processes: a server in use, interrupted imports, and what they say.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::Value;

use super::binary::{Longhaul, Refusal};
use super::redis::Redis;

/// Runs a command that must succeed.
async fn succeeds(args: &[&str]) -> String {
    let Refusal { code, output } = Longhaul::refusal(args).await;
    assert_eq!(code, Some(0), "{args:?}: {output}");
    output
}

fn embedded(folder: &Path, name: &str) -> String {
    format!("embedded:{}", folder.join(name).display())
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path").to_owned()
}

/// The line that ends an export, without its time.
fn end(file: &str) -> Value {
    let text = fs::read_to_string(file).expect("an export");
    let mut end: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    end["end"].as_object_mut().expect("an end").remove("time");
    end["end"].take()
}

#[tokio::test]
async fn an_import_that_was_killed_is_refused_by_servers_and_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, export) = (embedded(folder.path(), "source"), path(folder.path(), "export"));
    succeeds(&["bench", "load", "--store", &source, "--operations", "12000"]).await;
    succeeds(&["export", "--store", &source, "--output", &export]).await;
    assert!(!Path::new(&format!("{export}.partial")).exists());
    let lines: Vec<String> = fs::read_to_string(&export)
        .expect("an export")
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(lines.len(), 12_003, "header, partition and end beside the records");

    let redis = Redis::forgetful();
    for (number, target) in [embedded(folder.path(), "target"), redis.url()].iter().enumerate() {
        let pipe = path(folder.path(), &format!("pipe-{number}"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let mut killed = Longhaul::launch(&["import", &pipe, "--store", target]);
        let (most, to) = (lines[..11_900].concat(), pipe.clone());
        // Once a line of the fifth batch of 2,000 was read, the first has been written: one more is being written then, and two
        // wait. The rest of the export never comes.
        let writing = thread::spawn(move || {
            let mut pipe = fs::File::options().write(true).open(to).expect("a reader");
            pipe.write_all(most.as_bytes()).expect("written");
            pipe
        });
        let pipe = tokio::task::spawn_blocking(|| writing.join().expect("written")).await;
        killed.kill();
        drop(pipe);

        let refused =
            Longhaul::refusal(&["serve", "--listen", "127.0.0.1:0", "--store", target]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.output);
        assert!(refused.output.contains("has not finished; repeat"), "{}", refused.output);
        let said = succeeds(&["import", &export, "--store", target]).await;
        assert!(said.contains("12000 records") && said.contains("equal to the export"), "{said}");
        assert!(said.contains("000 were written by an earlier"), "{said}");
        let again = path(folder.path(), &format!("again-{number}"));
        succeeds(&["export", "--store", target, "--output", &again]).await;
        assert_eq!(end(&again), end(&export));
        Longhaul::serve(target).await;
    }
}

#[tokio::test]
async fn a_server_in_use_is_exported_and_its_directory_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, export) = (embedded(folder.path(), "source"), path(folder.path(), "export"));
    let server = Longhaul::serve(&source).await;
    let name = server.client().start("one", "q").await.expect("started").name;
    let refused = Longhaul::refusal(&["export", "--store", &source]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(
        refused.output.contains("ask it: name it with --server HOST:PORT"),
        "{}",
        refused.output
    );

    let address = server.address().to_string();
    let said = succeeds(&["export", "--server", &address, "--output", &export]).await;
    assert!(said.contains("exported all records"), "{said}");
    let text = fs::read_to_string(&export).expect("an export");
    assert!(text.contains(&format!("{name:?}")), "{name} in {text}");
    let mode = fs::metadata(&export).expect("a file").permissions().mode();
    assert_eq!(mode & 0o077, 0, "it holds the secret of the keyspace");

    let target = embedded(folder.path(), "target");
    succeeds(&["import", &export, "--store", &target]).await;
    let refused = Longhaul::refusal(&["import", &export, "--store", &target]).await;
    assert!(
        refused.output.contains(" has data already; an import needs an empty place"),
        "{}",
        refused.output
    );
    let copy = Longhaul::serve(&target).await;
    assert_eq!(copy.logged("keyspace"), server.logged("keyspace"));
}

#[tokio::test]
async fn an_export_into_a_pipe_or_a_device_leaves_it_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, pipe) = (embedded(folder.path(), "source"), path(folder.path(), "pipe"));
    succeeds(&["bench", "load", "--store", &source, "--operations", "100"]).await;
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let from = pipe.clone();
    let read = thread::spawn(move || fs::read_to_string(from).expect("an export"));
    succeeds(&["export", "--store", &source, "--output", &pipe]).await;
    let kind = fs::metadata(&pipe).expect("a pipe").file_type();
    assert!(kind.is_fifo(), "{kind:?}");
    let text = tokio::task::spawn_blocking(|| read.join().expect("read")).await.expect("read");
    assert_eq!(text.lines().count(), 103);

    // A directory is refused before anything is written beside it.
    let folder = path(folder.path(), "source");
    let refused = Longhaul::refusal(&["export", "--store", &source, "--output", &folder]).await;
    assert!(refused.output.contains("Is a directory"), "{}", refused.output);
    assert!(!Path::new(&format!("{folder}.partial")).exists());
}
