//! What a configuration is found guilty of: errors and warnings, each with its place.

use std::fmt;
use std::sync::Arc;

/// Where something was configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file as it was named; `-c` or `-C` for directives of the command line.
    pub file: Arc<str>,
    /// The last physical line of the (possibly continued) line, from 1; 0 stands for the file as a whole.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Something that keeps a configuration from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// The directive, or the section in angle brackets; empty where the line has no name.
    pub directive: String,
    /// What was found, what was expected, and what to do if we know it.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    /// `file:line: Directive: problem`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        write_finding(f, &self.directive, &self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Something legal that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    /// How much it matters.
    pub weight: Weight,
    /// Where.
    pub origin: Origin,
    /// The directive, or the section in angle brackets; empty where the line has no name.
    pub directive: String,
    /// What was found and what comes of it.
    pub text: String,
}

/// How much a finding matters that is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The line has no effect here, and need not have one; or it does what is safe where nothing is said.
    Note,
    /// It is probably not meant, or has a risk.
    Warning,
}

impl fmt::Display for ConfigWarning {
    /// `file:line: warning: Directive: text`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Note => "note",
            Weight::Warning => "warning",
        };
        write!(f, "{}: {weight}: ", self.origin)?;
        write_finding(f, &self.directive, &self.text)
    }
}

fn write_finding(f: &mut fmt::Formatter<'_>, directive: &str, text: &str) -> fmt::Result {
    if directive.is_empty() {
        f.write_str(text)
    } else {
        write!(f, "{directive}: {text}")
    }
}

/// Collects findings, so that one run can report all of them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigWarning>,
}

impl Findings {
    pub(super) fn error(&mut self, at: &Origin, directive: &str, problem: impl Into<String>) {
        self.errors.push(ConfigError {
            origin: at.clone(),
            directive: directive.to_owned(),
            problem: problem.into(),
        });
    }

    pub(super) fn warning(&mut self, at: &Origin, directive: &str, text: impl Into<String>) {
        self.add(Weight::Warning, at, directive, text);
    }

    pub(super) fn note(&mut self, at: &Origin, directive: &str, text: impl Into<String>) {
        self.add(Weight::Note, at, directive, text);
    }

    fn add(&mut self, weight: Weight, at: &Origin, directive: &str, text: impl Into<String>) {
        self.warnings.push(ConfigWarning {
            weight,
            origin: at.clone(),
            directive: directive.to_owned(),
            text: text.into(),
        });
    }

    /// Puts both lists in the order in which a reader meets the lines: reading and applying are two passes, and each
    /// has added its own. What several hosts inherited is said once. `files` are the files in the order in which they were read.
    pub(super) fn sort(&mut self, files: &[Arc<str>]) {
        let key = |origin: &Origin| {
            let file = files.iter().position(|file| *file == origin.file);
            (file.unwrap_or(files.len()), origin.line)
        };
        self.errors.sort_by_key(|error| key(&error.origin));
        self.warnings.sort_by_key(|warning| key(&warning.origin));
        self.errors.dedup();
        self.warnings.dedup();
    }
}
