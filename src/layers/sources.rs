//! Reads all sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file with its path below `src/`.
pub(super) fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let relative = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("source");
        (path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned(), text)
    };
    files.into_iter().map(relative).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
