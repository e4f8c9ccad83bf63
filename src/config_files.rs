//! Reads configuration files for [`config`](crate::config): globs, folders, the environment, the machine's name.

use crate::config::Files;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The machine that the program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

/// The largest file that is read, in bytes: a wrong path such as a device or a log must not eat the memory.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// How deep folders may lie in each other below an included one. A loop of symbolic links ends here.
const MAX_FOLDERS: usize = 128;

impl Files for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            let problem = format!("the file is longer than {MAX_FILE} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        Ok(text)
    }

    fn find(&self, root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        if !pattern.contains(['*', '?', '[']) {
            collect(&root.join(pattern), 0, &mut files)?;
            return Ok(files);
        }
        // Only what was written is a pattern; the root is a plain path, whatever its letters.
        let whole = if pattern.starts_with('/') {
            single_stars(pattern)
        } else {
            let root = root.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
            format!("{}/{}", glob::Pattern::escape(root), single_stars(pattern))
        };
        // As fnmatch: a wildcard matches neither a "/" nor the dot at the start of a name.
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let matches = glob::glob_with(&whole, options)
            .map_err(|cause| io::Error::new(io::ErrorKind::InvalidInput, cause.msg))?;
        let mut any = false;
        for path in matches {
            any = true;
            collect(&path.map_err(io::Error::from)?, 0, &mut files)?;
        }
        if any {
            Ok(files)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn host_name(&self) -> Option<String> {
        let system = rustix::system::uname();
        let name = system.nodename().to_str().ok()?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// The glob crate takes `**` for any number of folders; to httpd it is two stars that do what one does.
fn single_stars(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        if letter != '*' || !out.ends_with('*') {
            out.push(letter);
        }
    }
    out
}

/// Adds a file, or all files below a folder in the order of their names' bytes. httpd: files whose names begin with a
/// dot count as well, as there.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth == MAX_FOLDERS {
        return Err(io::Error::other(format!(
            "folders lie in each other more than {MAX_FOLDERS} levels deep"
        )));
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        collect(&entry, depth + 1, files)?;
    }
    Ok(())
}
