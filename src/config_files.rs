//! Reads configuration files for [`config`](crate::config): globs, folders, the environment, the machine's name.

use crate::config::Files;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The machine that the program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

/// The largest file that is read, in bytes: a wrong path such as a device or a log must not eat the memory.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// How deep folders may lie in each other below an included one. A loop of symbolic links ends here.
const MAX_FOLDERS: usize = 128;

impl Files for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_at_most(path, MAX_FILE)
    }

    fn read_regular(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        read_at_most(path, most)
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

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o777)
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

fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Opening a pipe waits for somebody who writes, and the server would wait with it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    // httpd: nothing but regular files and /dev/null.
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a pipe, which a reload could not read again",
        ));
    }
    let mut content = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut content)?;
    if content.len() > most {
        let problem = format!("the file is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(content)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources, Weight};

    fn data() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
    }

    /// The machine, and what is in no tree: certificates and keys. Their content is for the library, which is not asked.
    struct WithCertificates;

    /// By the end of the path.
    const MADE: &[(&str, &str, u32)] = &[
        ("made/open.key", "-----BEGIN PRIVATE KEY-----", 0o644),
        (
            "made/locked.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            0o600,
        ),
        (
            "made/both.pem",
            "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----",
            0o640,
        ),
        (
            "made/open.pem",
            "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----",
            0o666,
        ),
        ("made/empty.pem", "", 0o644),
        ("privkey.pem", "-----BEGIN PRIVATE KEY-----", 0o600),
        (".key", "-----BEGIN RSA PRIVATE KEY-----", 0o640),
        (".pem", "-----BEGIN CERTIFICATE-----", 0o644),
        (".crt", "-----BEGIN CERTIFICATE-----", 0o644),
    ];

    impl WithCertificates {
        fn made(path: &Path) -> Option<(&'static str, u32)> {
            let is_named = |name: &&str| path.to_string_lossy().ends_with(name);
            let is_missing = || path.to_string_lossy().contains("none") || path.exists();
            MADE.iter()
                .find(|(name, _, _)| is_named(name) && !is_missing())
                .map(|(_, content, mode)| (*content, *mode))
        }
    }

    impl Files for WithCertificates {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            Machine.read(path)
        }

        fn read_regular(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
            match Self::made(path) {
                Some((content, _)) => Ok(content.as_bytes().to_owned()),
                None => Machine.read_regular(path, most),
            }
        }

        fn find(&self, root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
            Machine.find(root, pattern)
        }

        fn exists(&self, path: &Path) -> bool {
            Machine.exists(path)
        }

        fn mode(&self, path: &Path) -> io::Result<u32> {
            Self::made(path).map_or_else(|| Machine.mode(path), |(_, mode)| Ok(mode))
        }

        fn variable(&self, name: &str) -> Option<String> {
            Machine.variable(name)
        }

        fn host_name(&self) -> Option<String> {
            Machine.host_name()
        }
    }

    /// Loads each file of a folder and compares what was found with what its comments expect.
    fn walk(folder: &str, is_accepted: bool) {
        let root = data();
        let mut files = Vec::new();
        collect(&root.join(folder), 0, &mut files).unwrap();
        assert!(!files.is_empty());
        let mut wrong = Vec::new();
        for path in files {
            let text = String::from_utf8_lossy(&Machine.read(&path).unwrap()).into_owned();
            let comments = |keys: &[&str]| -> Vec<String> {
                let comments = text
                    .lines()
                    .filter_map(|line| line.trim().strip_prefix("# "));
                let wanted = |line: &&str| {
                    let key = line.split_once(": ").map(|(key, _)| key);
                    key.is_some_and(|key| keys.contains(&key))
                };
                comments.filter(wanted).map(str::to_owned).collect()
            };
            let needs = comments(&["needs"]);
            let built = if cfg!(feature = "tls") {
                "needs: tls"
            } else {
                "needs: no tls"
            };
            if needs.iter().any(|needed| needed != built) {
                continue;
            }
            let sources = Sources {
                before: vec![format!("ServerRoot {:?}", root)],
                file: Some(path.clone()),
                ..Sources::default()
            };
            let own = path.display().to_string();
            // The comment begins with what kind of finding it is.
            let plain = |finding: String, kind: &str| {
                let finding = finding
                    .replace(&own, "@")
                    .replace(&root.display().to_string(), "%");
                format!("{kind}: {}", finding.replacen(&format!(": {kind}"), "", 1))
            };
            let loaded = config::load(&sources, &WithCertificates);
            let found: Vec<String> = match &loaded {
                Ok(config) => config
                    .warnings
                    .iter()
                    .map(|warning| match warning.weight {
                        Weight::Note => plain(warning.to_string(), "note"),
                        Weight::Warning => plain(warning.to_string(), "warning"),
                    })
                    .collect(),
                Err(errors) => errors
                    .iter()
                    .map(|error| plain(error.to_string(), "error"))
                    .collect(),
            };
            if loaded.is_ok() != is_accepted || found != comments(&["error", "warning", "note"]) {
                let found: Vec<String> = found.iter().map(|found| format!("# {found}")).collect();
                wrong.push(format!("{}\n{}", path.display(), found.join("\n")));
            }
        }
        assert!(wrong.is_empty(), "found in\n{}", wrong.join("\n\n"));
    }

    fn find(pattern: &str) -> io::Result<Vec<String>> {
        let root = data();
        let found = Machine.find(&root, pattern)?;
        let plain = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        Ok(found.into_iter().map(plain).collect())
    }

    #[test]
    fn a_folder_stands_for_all_files_below_it_by_name() {
        let all = [
            "parts/folder/1.inc",
            "parts/folder/2.inc",
            "parts/folder/deeper/1.inc",
        ];
        assert_eq!(find("parts/folder").unwrap(), all);
        assert_eq!(find("parts/folder/").unwrap(), all);
    }

    #[test]
    fn wildcards_stand_in_any_component() {
        assert_eq!(
            find("part?/fol*/[12].inc").unwrap(),
            ["parts/folder/1.inc", "parts/folder/2.inc"]
        );
        // Two stars are one, and a folder that matches is read.
        assert_eq!(find("parts/folder/**").unwrap().len(), 3);
        assert_eq!(find("**/one.inc").unwrap(), ["parts/one.inc"]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for pattern in ["none", "none/*", "parts/none*", "parts/one.inc/x"] {
            let kind = find(pattern).unwrap_err().kind();
            assert!(
                matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
                "{pattern}: {kind}"
            );
        }
    }

    #[test]
    fn a_folder_cannot_be_read_as_a_file() {
        assert!(Machine.read(&data()).is_err());
        assert!(Machine.exists(&data()));
    }

    #[test]
    fn a_regular_file_of_some_length_is_all_that_a_page_is_read_from() {
        let read = |name: &str, most| Machine.read_regular(&data().join(name), most);
        let page = read("parts/pages/404.html", 4096).unwrap();
        assert!(read("parts/pages/404.html", page.len()).is_ok());
        let kind = read("parts/pages/404.html", page.len() - 1)
            .unwrap_err()
            .kind();
        assert_eq!(kind, io::ErrorKind::FileTooLarge);
        assert!(read("parts/pages", 4096).is_err());
        assert!(Machine.read_regular(Path::new("/dev/null"), 4096).is_err());
    }

    #[test]
    fn a_file_says_who_may_read_it() {
        assert_eq!(Machine.mode(Path::new("/dev/null")).unwrap(), 0o666);
        assert!(Machine.mode(&data().join("none")).is_err());
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(Machine.host_name().is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn accepted_files_give_the_warnings_that_they_name() {
        walk("accepted", true);
    }

    #[test]
    fn refused_files_give_the_errors_that_they_name() {
        walk("refused", false);
    }
}
