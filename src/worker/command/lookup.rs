//! Finds a program as the system does, to report one that cannot be run before any operation is leased.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Why a program cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No such file.
    #[error("the program {} does not exist", .0.display())]
    Missing(PathBuf),
    /// No such file in any folder of PATH.
    #[error("no folder of PATH has a program {}; name it by its path", .0.display())]
    NotOnPath(PathBuf),
    /// A folder, or something else that is not a file.
    #[error("{} is not a file that can be run", .0.display())]
    NoFile(PathBuf),
    /// A file that is not executable.
    #[error("the program {path} is not executable; `chmod +x {path}` makes it so", path = .0.display())]
    NotExecutable(PathBuf),
    /// A script whose interpreter does not exist.
    #[error("the program {} is a script for {interpreter:?}, which does not exist", .program.display())]
    NoInterpreter {
        /// The script.
        program: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
}

/// Looks for the program, in the folders of PATH unless its name has a slash.
///
/// # Errors
/// If it cannot be run.
pub fn find_program(program: &OsStr) -> Result<PathBuf, ProgramError> {
    find(program, std::env::var_os("PATH").as_deref())
}

fn find(program: &OsStr, folders: Option<&OsStr>) -> Result<PathBuf, ProgramError> {
    if program.as_bytes().contains(&b'/') {
        return check(PathBuf::from(program));
    }
    let mut reason = ProgramError::NotOnPath(PathBuf::from(program));
    for folder in std::env::split_paths(folders.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        match check(folder.join(program)) {
            Ok(path) => return Ok(path),
            Err(ProgramError::Missing(_) | ProgramError::NoFile(_)) => {}
            // A later folder may have one that can be run.
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

fn check(path: PathBuf) -> Result<PathBuf, ProgramError> {
    let Ok(metadata) = path.metadata() else { return Err(ProgramError::Missing(path)) };
    if !metadata.is_file() {
        return Err(ProgramError::NoFile(path));
    }
    if access(&path, Access::EXEC_OK).is_err() {
        return Err(ProgramError::NotExecutable(path));
    }
    match interpreter(&path) {
        Some(interpreter) if !Path::new(&interpreter).exists() => {
            Err(ProgramError::NoInterpreter { program: path, interpreter })
        }
        _ => Ok(path),
    }
}

/// The interpreter in the first line of a script, with a carriage return if there is one: the system includes it too.
fn interpreter(path: &Path) -> Option<String> {
    let mut begin = [0; 256];
    // An executable file may be unreadable.
    let length = File::open(path).and_then(|mut file| file.read(&mut begin)).ok()?;
    let line = begin[..length].strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let words = line.split(|byte| b" \t".contains(byte));
    let name = words.into_iter().find(|word| !word.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// The search path without PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_as_the_system_finds_it_or_told_why_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        create_dir(&first).and_then(|()| create_dir(&second)).expect("folders");
        let path = std::env::join_paths([&first, &second]).expect("a path");
        let make = |path: &Path, text: &str, mode| {
            write(path, text).expect("written");
            set_permissions(path, Permissions::from_mode(mode)).expect("set");
        };
        let found = |name: &str| find(OsStr::new(name), Some(&path));

        make(&first.join("tool"), "", 0o644);
        assert_eq!(found("tool"), Err(ProgramError::NotExecutable(first.join("tool"))));
        make(&second.join("tool"), "#! /bin/sh -e\n", 0o755);
        assert_eq!(found("tool"), Ok(second.join("tool")));
        assert_eq!(found("none"), Err(ProgramError::NotOnPath("none".into())));
        assert_eq!(found("./none"), Err(ProgramError::Missing("./none".into())));
        assert_eq!(found(""), Err(ProgramError::NotOnPath("".into())));
        assert_eq!(found("/"), Err(ProgramError::NoFile("/".into())));
        make(&first.join("script"), "#!/bin/sh\r\n", 0o755);
        let error = found("script").expect_err("no interpreter").to_string();
        assert!(error.contains(r#""/bin/sh\r""#), "{error}");
        assert_eq!(find(OsStr::new("sh"), None), Ok("/bin/sh".into()));
    }
}
