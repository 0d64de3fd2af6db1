//! `longhaul proto`: the written definitions are those that reflection serves.

use std::collections::BTreeMap;
use std::path::Path;

use super::typed::Typist;

#[tokio::test]
async fn proto_writes_every_definition_but_the_stored_form_as_it_is_in_the_repository() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new/proto");
    let args = ["proto", "--out", out.to_str().expect("a path")];
    let nobody = Typist::at("nowhere");
    let ended = nobody.runs(&args, "").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");

    let mut expected = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    expected.retain(|path, _| !path.starts_with("longhaul/store"));
    assert!(expected.contains_key("longhaul/v1/callers.proto"));
    assert_eq!(files(&out), expected);
    assert!(ended.stderr.contains(&format!("wrote {} definitions", expected.len())), "{ended:?}");

    // A newer longhaul overwrites the files of an older one, and leaves other files alone.
    std::fs::write(out.join("longhaul/v1/callers.proto"), "old").expect("written");
    std::fs::write(out.join("mine.proto"), "mine").expect("written");
    assert_eq!(nobody.runs(&args, "").await.code, 0);
    assert_eq!(files(&out).remove("mine.proto").as_deref(), Some("mine"));
    assert_eq!(files(&out)["longhaul/v1/callers.proto"], expected["longhaul/v1/callers.proto"]);
}

#[tokio::test]
async fn proto_says_what_it_cannot_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let out = file.to_str().expect("a path");
    let ended = Typist::at("nowhere").runs(&["proto", "--out", out], "").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.starts_with("longhaul: cannot make the folder "), "{ended:?}");
    assert!(ended.stderr.contains(out), "{ended:?}");
}

/// Every file below a folder, by its path from there.
fn files(root: &Path) -> BTreeMap<String, String> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below it").display().to_string();
                files.insert(name, std::fs::read_to_string(&path).expect("a text"));
            }
        }
    }
    files
}
