//! The text format of `tests/data/routes`; its README says what the lines mean.

use crate::support::{tree, unescape};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file: a configuration, and requests to a proxy that has it.
#[derive(Debug)]
pub struct Table {
    /// As messages name it.
    pub file: PathBuf,
    pub config: String,
    /// What httpd has to load beside what it always has.
    pub modules: Vec<String>,
    pub cases: Vec<Case>,
}

/// One request, and what is to come of it.
#[derive(Debug, Default)]
pub struct Case {
    /// The line of the file that it begins at.
    pub line: usize,
    pub heading: String,
    /// The listener that is asked.
    pub at: String,
    /// The address that the client binds to, where it matters.
    pub from: Option<String>,
    pub request_line: String,
    /// It asks for no WebSocket.
    pub is_plain: bool,
    /// Fields of the request's own, and the names of ordinary ones that it has not.
    pub fields: Vec<String>,
    pub without: Vec<String>,
    /// What is sent behind the head.
    pub body: String,
    /// A backend and the request line that it sees, or the status that the client gets: as [`super::Outcome::brief`].
    pub expected: String,
    /// The fields below are all that the backend sees, in this order.
    pub exactly: bool,
    /// What the backend sees.
    pub seen: Vec<Field>,
    /// The content that the backend sees, where that is said.
    pub content: Option<Vec<u8>>,
    /// What the client sees.
    pub answered: Vec<Field>,
    /// What httpd does otherwise.
    pub differences: BTreeSet<String>,
}

/// What is said about a field.
#[derive(Debug)]
pub enum Field {
    /// It stands there once more with this value.
    Is(String, String),
    /// It is not there.
    Missing(String),
}

impl Table {
    /// All tables, by the names of their files.
    pub fn all() -> Vec<Self> {
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap();
            Self::parse(&path, &text)
        };
        files("tests/data/routes", "txt")
            .into_iter()
            .map(read)
            .collect()
    }

    /// Reads what stands in `path`.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut table = Self {
            file: path.strip_prefix(tree()).unwrap_or(path).to_owned(),
            config: String::new(),
            modules: Vec::new(),
            cases: Vec::new(),
        };
        let mut heading = None;
        // Where the lines of a request are expected, and not those of an outcome.
        let mut asking = false;
        for (index, line) in text.lines().enumerate() {
            let wrong =
                |what: &str| -> ! { panic!("{}:{}: {what}", table.file.display(), index + 1) };
            if let Some(title) = line.strip_prefix("== ") {
                heading = Some(title.to_owned());
                asking = false;
            } else if heading.is_none() {
                if let Some(names) = line.strip_prefix("# httpd loads ") {
                    table.modules = names.split(' ').map(str::to_owned).collect();
                }
                table.config += line;
                table.config.push('\n');
            } else if line.trim().is_empty() || line.starts_with('#') {
                // For people.
            } else if let Some(outcome) = line.strip_prefix("-> ") {
                match table.cases.last_mut() {
                    Some(case) if asking => case.expect(outcome),
                    _ => wrong("an outcome without a request"),
                }
                asking = false;
            } else if line.starts_with(' ') {
                match table.cases.last_mut() {
                    Some(case) if !asking => {
                        case.tell(line.trim()).unwrap_or_else(|what| wrong(what));
                    }
                    _ => wrong("indented, and no outcome before it"),
                }
            } else if let Some((asked, outcome)) = line.split_once(" -> ") {
                let mut case = Case::at(index, heading.as_ref());
                // Without a method it is the target of a WebSocket.
                case.is_plain = !asked.starts_with('/');
                let method = if case.is_plain { "" } else { "GET " };
                case.request_line = format!("{method}{} HTTP/1.1", asked.trim());
                case.expect(outcome);
                table.cases.push(case);
                asking = false;
            } else if line.starts_with('/') {
                wrong("no outcome");
            } else {
                if !asking {
                    table.cases.push(Case::at(index, heading.as_ref()));
                    asking = true;
                }
                if let Some(case) = table.cases.last_mut() {
                    case.ask(line);
                }
            }
        }
        table.check();
        table
    }

    fn check(&self) {
        for case in &self.cases {
            let Case { line, expected, .. } = case;
            assert!(
                !expected.is_empty(),
                "{}:{line}: no outcome",
                self.file.display()
            );
        }
    }
}

impl Case {
    fn at(index: usize, heading: Option<&String>) -> Self {
        Self {
            line: index + 1,
            heading: heading.cloned().unwrap_or_default(),
            at: "FRONT".to_owned(),
            ..Self::default()
        }
    }

    /// A line of the request.
    fn ask(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("at ") {
            self.at = name.to_owned();
        } else if let Some(address) = line.strip_prefix("from ") {
            self.from = Some(address.to_owned());
        } else if let Some(name) = line.strip_prefix("- ") {
            self.without.push(name.to_owned());
        } else if let Some(text) = line.strip_prefix("+ ") {
            self.body += text;
        } else if line == "plain" {
            self.is_plain = true;
        } else if self.request_line.is_empty() {
            line.clone_into(&mut self.request_line);
        } else {
            self.fields.push(line.to_owned());
        }
    }

    fn expect(&mut self, outcome: &str) {
        outcome.trim().clone_into(&mut self.expected);
    }

    /// A line below the outcome.
    fn tell(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(difference) = line.strip_prefix("httpd: ") {
            let (difference, reason) = difference
                .split_once(" -- ")
                .ok_or("a difference without a reason")?;
            if reason.trim().is_empty() || !self.differences.insert(difference.trim().to_owned()) {
                return Err("a difference without a reason, or twice");
            }
        } else if let Some(field) = line.strip_prefix("<- ") {
            self.answered.push(Field::parse(field)?);
        } else if let Some(text) = line.strip_prefix("+ ") {
            unescape(text, self.content.get_or_insert_default());
        } else if line == "exactly" {
            self.exactly = true;
        } else {
            self.seen.push(Field::parse(line)?);
        }
        Ok(())
    }

    /// The bytes of the request: its own fields, and behind them the ordinary ones that it does not have itself: the first
    /// of every request, all of a handshake.
    pub fn bytes(&self, ordinary: &[(&str, &str)]) -> Vec<u8> {
        let ordinary = if self.is_plain {
            &ordinary[..1]
        } else {
            ordinary
        };
        let mut bytes = Vec::new();
        let own = std::iter::once(&self.request_line).chain(&self.fields);
        for line in own {
            unescape(line, &mut bytes);
            bytes.extend_from_slice(b"\r\n");
        }
        let has = |name: &str| {
            let own = self.fields.iter().filter_map(|line| line.split_once(':'));
            own.map(|(name, _)| name)
                .chain(self.without.iter().map(String::as_str))
                .any(|own| own.eq_ignore_ascii_case(name))
        };
        for (name, value) in ordinary.iter().filter(|(name, _)| !has(name)) {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        unescape(&self.body, &mut bytes);
        bytes
    }
}

/// The files of a folder of the tree, by their names.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tree().join(folder)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

impl Field {
    fn parse(line: &str) -> Result<Self, &'static str> {
        if let Some(name) = line.strip_prefix("no ") {
            return Ok(Self::Missing(name.to_owned()));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or("neither a field nor \"no NAME\"")?;
        Ok(Self::Is(name.to_owned(), value.trim().to_owned()))
    }
}
