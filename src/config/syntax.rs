//! The grammar of httpd's configuration files: text to directives and sections, each with its `file:line`.
//!
//! Decided here: lines and continuation, comments, `${NAME}`, words and quotes, sections and their ends, and what httpd
//! obeys while it reads: `Include`, `IncludeOptional`, `Define`, `UnDefine`, `ServerRoot`, `<IfDefine>`, `<IfModule>`
//! and `<IfFile>`. What a directive means is left to the table. Files, environment and host name come in through
//! [`Files`]. Source: httpd server/util.c `ap_cfg_getline_core`, `ap_getword_conf`, `ap_resolve_env`; server/config.c
//! `ap_build_config`.

use super::Sources;
use super::findings::{Findings, Origin};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the configuration takes from the machine it is read on.
pub trait Files {
    /// The whole of a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The whole of a regular file of at most `most` bytes. Nothing else is opened: a pipe would wait for its writer.
    ///
    /// # Errors
    /// Those of the file system; that it is another kind of file, or longer.
    fn read_regular(&self, path: &Path, most: usize) -> io::Result<Vec<u8>>;

    /// The files that `Include` means by `pattern`, in the order in which they are read: a relative pattern is below
    /// `root`, each component may have wildcards, folders stand for all files below them.
    ///
    /// # Errors
    /// Those of the file system; `NotFound` where nothing matches.
    fn find(&self, root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>>;

    /// Whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> bool;

    /// Who may read, write and execute a file, as the lowest nine bits.
    ///
    /// # Errors
    /// Those of the file system.
    fn mode(&self, path: &Path) -> io::Result<u32>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// The name of this machine.
    fn host_name(&self) -> Option<String>;
}

/// A directive or a section with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Directive(Directive),
    Section(Section),
}

/// One logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// As written.
    pub(super) name: String,
    /// What stands behind the name, variables expanded, not yet split: some directives split it in their own way.
    pub(super) arguments: String,
    pub(super) origin: Origin,
}

/// `<Name arguments> ... </Name>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// As written, without the angle bracket.
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) origin: Origin,
    pub(super) body: Vec<Item>,
}

/// What came of reading.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) items: Vec<Item>,
    pub(super) findings: Findings,
    /// The last `ServerRoot`, or the default.
    pub(super) server_root: PathBuf,
    /// Every file in the order of reading, as named in origins.
    pub(super) files: Vec<Arc<str>>,
}

/// The longest logical line, in bytes. httpd: `VARBUF_MAX_LEN`.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// How deep files may include each other. httpd: `AP_MAX_INCLUDE_DEPTH`.
const MAX_DEPTH: usize = 128;

/// Directives that are obeyed here and not by the table's apply functions, beside the conditional sections.
pub(super) const READ_TIME: [&str; 5] = [
    "Define",
    "Include",
    "IncludeOptional",
    "ServerRoot",
    "UnDefine",
];

/// The conditional sections.
pub(super) const CONDITIONS: [&str; 3] = ["IfDefine", "IfFile", "IfModule"];

/// The modules of httpd whose job this program does: source file and identifier. They count as loaded in full, also
/// where a later version will do the rest of the job: a line that is refused by name is better than one that is skipped.
const MODULES: [(&str, &str); 23] = [
    ("mod_proxy.c", "proxy_module"),
    ("mod_proxy_http.c", "proxy_http_module"),
    ("mod_proxy_wstunnel.c", "proxy_wstunnel_module"),
    ("mod_proxy_balancer.c", "proxy_balancer_module"),
    ("mod_lbmethod_byrequests.c", "lbmethod_byrequests_module"),
    ("mod_lbmethod_bytraffic.c", "lbmethod_bytraffic_module"),
    ("mod_lbmethod_bybusyness.c", "lbmethod_bybusyness_module"),
    ("mod_slotmem_shm.c", "slotmem_shm_module"),
    ("mod_rewrite.c", "rewrite_module"),
    ("mod_setenvif.c", "setenvif_module"),
    ("mod_env.c", "env_module"),
    ("mod_headers.c", "headers_module"),
    ("mod_authz_core.c", "authz_core_module"),
    ("mod_authz_host.c", "authz_host_module"),
    ("mod_access_compat.c", "access_compat_module"),
    ("mod_ssl.c", "ssl_module"),
    ("mod_socache_shmcb.c", "socache_shmcb_module"),
    ("mod_log_config.c", "log_config_module"),
    ("mod_logio.c", "logio_module"),
    ("mod_reqtimeout.c", "reqtimeout_module"),
    ("mod_remoteip.c", "remoteip_module"),
    ("mod_unixd.c", "unixd_module"),
    ("mpm_event.c", "mpm_event_module"),
];

/// Whether a module of httpd, by source file or identifier, counts as loaded.
pub(super) fn has_module(name: &str) -> bool {
    MODULES.iter().any(|(file, id)| {
        (*file == name || *id == name) && (cfg!(feature = "tls") || *id != "ssl_module")
    })
}

/// Reads the directives before the file, the file, and those after it, with all that they include. Never stops at an
/// error: the findings hold all of them.
pub(super) fn read(sources: &Sources, files: &dyn Files) -> Reading {
    let mut reader = Reader {
        files,
        definitions: sources
            .defines
            .iter()
            .map(|name| (name.clone(), None))
            .collect(),
        server_root: PathBuf::from(super::DEFAULT_SERVER_ROOT),
        depth: 0,
        too_deep: false,
        findings: Findings::default(),
        names: Vec::new(),
    };
    let mut items = Vec::new();
    reader.command_line(&sources.before, "-C", &mut items);
    if let Some(path) = &sources.file {
        match files.read(path) {
            Ok(text) => reader.text(&text, &name_of(path), &mut items),
            Err(cause) => {
                let whole = Origin {
                    file: name_of(path),
                    line: 0,
                };
                let problem = format!("cannot read the configuration file: {cause}");
                reader.findings.error(&whole, "", problem);
            }
        }
    }
    reader.command_line(&sources.after, "-c", &mut items);
    Reading {
        items,
        findings: reader.findings,
        server_root: reader.server_root,
        files: reader.names,
    }
}

fn name_of(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

struct Reader<'a> {
    files: &'a dyn Files,
    /// `-D`, and `Define` so far; the value is absent where only `<IfDefine>` may ask. Global wherever they stand.
    definitions: HashMap<String, Option<String>>,
    server_root: PathBuf,
    depth: usize,
    /// A file probably includes itself. Going on could double the work with each level, so this one error ends all.
    too_deep: bool,
    findings: Findings,
    names: Vec<Arc<str>>,
}

/// A section that has not been closed yet.
struct Open {
    section: Section,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Handed to the table.
    Kept,
    /// A condition that holds: its body belongs to what is around it.
    Transparent,
    /// A condition that does not hold, or anything inside one. Only the balance of sections is watched.
    Skipped,
}

impl Reader<'_> {
    fn command_line(&mut self, lines: &[String], name: &str, items: &mut Vec<Item>) {
        if !lines.is_empty() {
            self.text(lines.join("\n").as_bytes(), &Arc::from(name), items);
        }
    }

    /// Reads one file. Sections have to end in the file in which they begin.
    fn text(&mut self, text: &[u8], file: &Arc<str>, items: &mut Vec<Item>) {
        self.names.push(Arc::clone(file));
        let mut open: Vec<Open> = Vec::new();
        for line in Lines::new(text) {
            if self.too_deep {
                return;
            }
            let origin = Origin {
                file: Arc::clone(file),
                line: line.number,
            };
            self.line(&line.text, &origin, &mut open, items);
        }
        while let Some(unclosed) = open.pop() {
            self.unclosed(&unclosed);
            close(unclosed, &mut open, items);
        }
    }

    fn line(&mut self, text: &[u8], at: &Origin, open: &mut Vec<Open>, items: &mut Vec<Item>) {
        let text = trim(text);
        if text.is_empty() || text.starts_with(b"#") {
            return;
        }
        if text.len() > MAX_LINE {
            let problem = format!("the line is longer than {MAX_LINE} bytes");
            return self.findings.error(at, "", problem);
        }
        let skipping = open.last().is_some_and(|open| open.kind == Kind::Skipped);
        let text = match std::str::from_utf8(text) {
            Ok(text) if !text.contains('\0') => text,
            _ if skipping => return,
            Ok(_) => return self.findings.error(at, "", "the line holds a NUL byte"),
            Err(_) => {
                return self.findings.error(
                    at,
                    "",
                    "the line is not UTF-8 text; save the file in UTF-8",
                );
            }
        };
        let text = if skipping {
            Cow::Borrowed(text)
        } else {
            self.expand(text, at)
        };
        let Some((name, arguments)) = name_and_arguments(&text) else {
            return;
        };
        if let Some(name) = name.strip_prefix("</") {
            self.end_section(name, arguments, at, open, items);
        } else if let Some(name) = name.strip_prefix('<') {
            self.begin_section(name, arguments, at, open, skipping);
        } else if !skipping {
            self.directive(
                Directive {
                    name,
                    arguments: arguments.to_owned(),
                    origin: at.clone(),
                },
                open,
                items,
            );
        }
    }

    /// Replaces each `${NAME}` by its definition, else by the environment's; neither: it stays as it is. The result is
    /// not looked at again.
    fn expand<'t>(&mut self, text: &'t str, at: &Origin) -> Cow<'t, str> {
        if !text.contains("${") {
            return Cow::Borrowed(text);
        }
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            expanded.push_str(before);
            let value = behind.split_once('}').and_then(|(name, behind)| {
                match self.definitions.get(name).cloned().flatten() {
                    Some(value) => Some((value, behind)),
                    None => self.files.variable(name).map(|value| (value, behind)),
                }
            });
            if let Some((value, behind)) = value {
                expanded.push_str(&value);
                rest = behind;
                continue;
            }
            // A colon is the sign of a lookup in a rewrite map, which is not ours to judge.
            if let Some((name, _)) = behind.split_once('}')
                && !name.contains(':')
            {
                let text = format!(
                    "\"${{{name}}}\" is neither set by Define nor in the environment, and stays as it is"
                );
                self.findings.warning(at, "", text);
            }
            expanded.push_str("${");
            rest = behind;
        }
        expanded.push_str(rest);
        Cow::Owned(expanded)
    }

    fn begin_section(
        &mut self,
        name: &str,
        arguments: &str,
        at: &Origin,
        open: &mut Vec<Open>,
        skipping: bool,
    ) {
        let (name, arguments, closed) = match name.strip_suffix('>') {
            Some(name) => (name, "", true),
            // As httpd, what stands behind the last ">" does not count.
            None => match arguments.rsplit_once('>') {
                Some((arguments, _)) => (name, arguments.trim_end_matches(is_space), true),
                None => (name, arguments, false),
            },
        };
        let title = format!("<{name}>");
        if !closed && !skipping {
            self.findings
                .error(at, &title, "the line has no \">\" at its end");
        }
        if name.is_empty() {
            if !skipping {
                self.findings
                    .error(at, "", "a name is missing behind \"<\"");
            }
            return;
        }
        let kind = if skipping {
            Kind::Skipped
        } else if let Some(condition) = CONDITIONS.iter().find(|c| c.eq_ignore_ascii_case(name)) {
            match self.holds(condition, arguments) {
                Ok(true) => Kind::Transparent,
                Ok(false) => Kind::Skipped,
                Err(problem) => {
                    self.findings.error(at, &title, problem);
                    Kind::Skipped
                }
            }
        } else {
            Kind::Kept
        };
        open.push(Open {
            section: Section {
                name: name.to_owned(),
                arguments: arguments.to_owned(),
                origin: at.clone(),
                body: Vec::new(),
            },
            kind,
        });
    }

    fn holds(&self, condition: &str, arguments: &str) -> Result<bool, String> {
        let (not, subject) = match arguments.strip_prefix('!') {
            Some(subject) => (true, subject),
            None => (false, arguments),
        };
        let words = words(subject)?;
        let [subject] = words.as_slice() else {
            return Err(format!(
                "expected one name, with \"!\" before it for \"not\", found \"{arguments}\""
            ));
        };
        let holds = match condition {
            "IfDefine" => self.definitions.contains_key(subject),
            "IfFile" => self.files.exists(&self.server_root.join(subject)),
            _ => has_module(subject),
        };
        Ok(holds != not)
    }

    fn end_section(
        &mut self,
        name: &str,
        arguments: &str,
        at: &Origin,
        open: &mut Vec<Open>,
        items: &mut Vec<Item>,
    ) {
        let bare = name.strip_suffix('>').unwrap_or(name);
        let title = format!("</{bare}>");
        if bare == name && !arguments.starts_with('>') {
            self.findings
                .error(at, &title, "the line has no \">\" at its end");
        }
        let same = |open: &Open| open.section.name.eq_ignore_ascii_case(bare);
        // An inner section that was forgotten must not make an error of every end behind it.
        let Some(depth) = open.iter().rposition(same) else {
            let problem = match open.last() {
                Some(open) => format!("expected </{}>", open.section.name),
                None => format!("there is no <{bare}> to end"),
            };
            return self.findings.error(at, &title, problem);
        };
        while open.len() > depth + 1
            && let Some(unclosed) = open.pop()
        {
            self.unclosed(&unclosed);
            close(unclosed, open, items);
        }
        if let Some(closed) = open.pop() {
            close(closed, open, items);
        }
    }

    fn unclosed(&mut self, open: &Open) {
        let name = &open.section.name;
        let problem = format!("the section has no end; write </{name}> in the same file");
        self.findings
            .error(&open.section.origin, &format!("<{name}>"), problem);
    }

    /// Obeys what is obeyed while reading, and keeps the rest.
    fn directive(&mut self, directive: Directive, open: &mut [Open], items: &mut Vec<Item>) {
        let name = READ_TIME
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(&directive.name));
        let inside_section = open.iter().any(|open| open.kind == Kind::Kept);
        let into = innermost(open, items);
        let Some(name) = name else {
            return into.push(Item::Directive(directive));
        };
        let done = words(&directive.arguments).and_then(|arguments| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let at = &directive.origin;
            match (name, arguments.as_slice()) {
                ("Define", [name]) => self.define(name, None),
                ("Define", [name, value]) => self.define(name, Some(value)),
                ("Define", _) => Err("expected a name and, if wanted, a value".to_owned()),
                ("UnDefine", [name]) => {
                    self.definitions.remove(*name);
                    Ok(())
                }
                ("UnDefine", _) => Err("expected a name".to_owned()),
                // The table will say that it may not stand here.
                ("ServerRoot", _) if inside_section => Ok(()),
                ("ServerRoot", [path]) => self.server_root(path),
                ("ServerRoot", _) => Err("expected the path of a folder".to_owned()),
                (_, [pattern]) if !pattern.is_empty() => {
                    self.include(pattern, name, at, into);
                    Ok(())
                }
                _ => Err("expected the path of a file or folder".to_owned()),
            }
        });
        if let Err(problem) = done {
            self.findings.error(&directive.origin, name, problem);
        }
        if name == "ServerRoot" {
            into.push(Item::Directive(directive));
        }
    }

    fn define(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        if name.is_empty() || name.contains([':', '}']) {
            return Err(format!(
                "a name may not be empty and may not contain \":\" or \"}}\", found \"{name}\""
            ));
        }
        let value = value.map(str::to_owned);
        self.definitions.insert(name.to_owned(), value);
        Ok(())
    }

    /// httpd: a relative folder is taken below the current one there. A daemon that depends on where it was started
    /// from writes its files in surprising places, so that is refused.
    fn server_root(&mut self, path: &str) -> Result<(), String> {
        if !path.starts_with('/') {
            return Err(format!("\"{path}\" is not an absolute path"));
        }
        let path = PathBuf::from(path);
        if !self.files.exists(&path) {
            return Err(format!("there is no folder \"{}\"", path.display()));
        }
        self.server_root = path;
        Ok(())
    }

    fn include(&mut self, pattern: &str, name: &str, at: &Origin, into: &mut Vec<Item>) {
        if self.depth == MAX_DEPTH {
            self.too_deep = true;
            let problem = format!(
                "files include each other more than {MAX_DEPTH} levels deep; does one include itself?"
            );
            return self.findings.error(at, name, problem);
        }
        let found = match self.files.find(&self.server_root, pattern) {
            Ok(found) => found,
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                if name != "IncludeOptional" {
                    let path = self.server_root.join(pattern);
                    let problem = format!(
                        "there is no file \"{}\"; IncludeOptional would not mind",
                        path.display()
                    );
                    self.findings.error(at, name, problem);
                }
                return;
            }
            Err(cause) => {
                let problem = format!("\"{pattern}\": {cause}");
                return self.findings.error(at, name, problem);
            }
        };
        self.depth += 1;
        for path in found {
            match self.files.read(&path) {
                Ok(text) => self.text(&text, &name_of(&path), into),
                Err(cause) => {
                    let problem = format!("cannot read \"{}\": {cause}", path.display());
                    self.findings.error(at, name, problem);
                }
            }
        }
        self.depth -= 1;
    }
}

/// The list that a directive at this point belongs to.
fn innermost<'a>(open: &'a mut [Open], items: &'a mut Vec<Item>) -> &'a mut Vec<Item> {
    open.iter_mut()
        .rev()
        .find(|open| open.kind == Kind::Kept)
        .map_or(items, |open| &mut open.section.body)
}

fn close(closed: Open, open: &mut [Open], items: &mut Vec<Item>) {
    if closed.kind == Kind::Kept {
        innermost(open, items).push(Item::Section(closed.section));
    }
}

/// The first word and, trimmed, what stands behind it. None: there is no word (a variable expanded to nothing).
fn name_and_arguments(text: &str) -> Option<(String, &str)> {
    let text = text.trim_matches(is_space);
    // httpd takes a quoted name as well. Nobody writes that, and an open quote has its own error in `words`.
    let end = text.find(is_space).unwrap_or(text.len());
    let (name, arguments) = text.split_at(end);
    (!name.is_empty()).then(|| (name.to_owned(), arguments.trim_start_matches(is_space)))
}

/// Splits arguments into words, to the letter of httpd's rules: a word that begins with a quote runs to the same quote,
/// and inside it `\` protects that quote and itself; a quote in mid-word is a letter; outside quotes only `\\` is
/// special, and stands for one backslash.
///
/// # Errors
/// A quote without an end. httpd lets such a word run to the end of the line; it is always a mistake.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let mut word = String::new();
        let quote = (first == '"' || first == '\'').then_some(first);
        let mut letters = rest.char_indices().skip(usize::from(quote.is_some()));
        let mut end = None;
        while let Some((at, letter)) = letters.next() {
            if quote.map_or_else(|| is_space(letter), |quote| letter == quote) {
                end = Some(at);
                break;
            }
            let mut ahead = letters.clone();
            match ahead.next() {
                Some((_, next)) if letter == '\\' && (next == '\\' || Some(next) == quote) => {
                    word.push(next);
                    letters = ahead;
                }
                _ => word.push(letter),
            }
        }
        rest = match (end, quote) {
            (Some(end), Some(_)) => rest.get(end + 1..).unwrap_or_default(),
            (Some(end), None) => rest.get(end..).unwrap_or_default(),
            (None, None) => "",
            (None, Some(_)) => {
                return Err(format!("the quote that begins with {rest} has no end"));
            }
        }
        .trim_start_matches(is_space);
        words.push(word);
    }
    Ok(words)
}

/// White space as C's `isspace` has it, whatever else Unicode counts.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(char::from(*first))
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(char::from(*last))
    {
        text = rest;
    }
    text
}

/// Splits text into logical lines.
struct Lines<'t> {
    rest: &'t [u8],
    /// The physical lines that have been taken.
    taken: u32,
}

/// A line with its continuations joined.
struct Line<'t> {
    /// The number of its last physical line.
    number: u32,
    text: Cow<'t, [u8]>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self {
            rest: text,
            taken: 0,
        }
    }
}

impl<'t> Iterator for Lines<'t> {
    type Item = Line<'t>;

    fn next(&mut self) -> Option<Line<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut joined = Cow::Borrowed(&[] as &[u8]);
        loop {
            self.taken = self.taken.saturating_add(1);
            let mut parts = self.rest.splitn(2, |b| *b == b'\n');
            let physical = parts.next().unwrap_or_default();
            let behind = parts.next();
            self.rest = behind.unwrap_or_default();
            // A backslash continues a line only before a line end: as the last byte of a file it is a letter.
            let continued = behind.and_then(|_| {
                let physical = physical.strip_suffix(b"\r").unwrap_or(physical);
                physical.strip_suffix(b"\\")
            });
            let text = continued.unwrap_or(physical);
            if joined.is_empty() {
                joined = Cow::Borrowed(text);
            } else {
                joined.to_mut().extend_from_slice(text);
            }
            if continued.is_none() || self.rest.is_empty() {
                return Some(Line {
                    number: self.taken,
                    text: joined,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    /// Reads `text` as main.conf beside other files; gives the items, one a line, and the findings.
    fn read_with(text: &[u8], mut files: Fake) -> (Vec<String>, Vec<String>) {
        files.files.insert("main.conf".into(), text.to_owned());
        let sources = Sources {
            file: Some("main.conf".into()),
            defines: vec!["GIVEN".into()],
            ..Sources::default()
        };
        let reading = read(&sources, &files);
        let mut items = Vec::new();
        show(&reading.items, "", &mut items);
        let mut findings: Vec<String> = Vec::new();
        findings.extend(reading.findings.errors.iter().map(ToString::to_string));
        findings.extend(reading.findings.warnings.iter().map(ToString::to_string));
        (items, findings)
    }

    fn show(items: &[Item], indent: &str, out: &mut Vec<String>) {
        for item in items {
            match item {
                Item::Directive(d) => {
                    out.push(format!(
                        "{indent}{}: {} {}",
                        d.origin.line, d.name, d.arguments
                    ));
                }
                Item::Section(s) => {
                    out.push(format!(
                        "{indent}{}: <{}> {}",
                        s.origin.line, s.name, s.arguments
                    ));
                    show(&s.body, &format!("{indent}  "), out);
                }
            }
        }
    }

    fn read_text(text: &str) -> (Vec<String>, Vec<String>) {
        read_with(text.as_bytes(), Fake::default())
    }

    /// The items of a text without any finding.
    fn items(text: &str) -> Vec<String> {
        let (items, findings) = read_text(text);
        assert_eq!(findings, [] as [&str; 0]);
        items
    }

    #[test]
    fn a_line_is_trimmed_and_blank_lines_and_comments_are_skipped() {
        assert_eq!(
            items("\n  \t\n# x\n   # y\n  A  b  c \t\r\n\x0bB"),
            ["5: A b  c", "6: B "]
        );
    }

    #[test]
    fn a_hash_behind_a_directive_is_an_argument() {
        assert_eq!(items("A b # c"), ["1: A b # c"]);
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines_and_the_last_number_counts() {
        assert_eq!(items("A b\\\n  c\\\r\nd\nB"), ["3: A b  cd", "4: B "]);
        // A blank behind the backslash, and the end of the file instead of a line.
        assert_eq!(items("A b\\ \nB c\\"), ["1: A b\\", "2: B c\\"]);
        assert_eq!(items("A b\\\n"), ["1: A b"]);
        // Two backslashes are one that stays and one that joins.
        assert_eq!(items("A b\\\\\nc"), ["2: A b\\c"]);
    }

    #[test]
    fn a_comment_that_ends_in_a_backslash_swallows_the_next_line() {
        assert_eq!(items("# x\\\nA b\nB"), ["3: B "]);
    }

    #[test]
    fn words_follow_httpd_s_quoting_rules() {
        for (text, expected) in [
            ("", &[] as &[&str]),
            ("a  b\tc", &["a", "b", "c"]),
            (r#""a b" 'c d'"#, &["a b", "c d"]),
            (r#""""#, &[""]),
            (r#""a"b"#, &["a", "b"]),
            (r#"a"b c"d"#, &[r#"a"b"#, r#"c"d"#]),
            (r#""a\"b""#, &[r#"a"b"#]),
            (r#""a\\""#, &[r"a\"]),
            (r#""a\'b\n""#, &[r"a\'b\n"]),
            (r#"'a"b'"#, &[r#"a"b"#]),
            (r"a\\b\c\", &[r"a\b\c\"]),
            (r#"a\"b"#, &[r#"a\"b"#]),
            (r"a\ b", &[r"a\", "b"]),
            ("'ü' ö", &["ü", "ö"]),
            // A space that is none in C.
            ("a\u{a0}b", &["a\u{a0}b"]),
        ] {
            assert_eq!(words(text).unwrap(), *expected, "{text}");
        }
        for text in [r#""a"#, r#"a 'b"#, r#""a\""#, r#"""""#] {
            assert!(words(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_in_the_raw_line_once() {
        let mut files = Fake::default();
        for (name, value) in [("HOME", "/home/a"), ("A", "environment"), ("N", "${A}")] {
            files.variables.insert(name.into(), value.into());
        }
        let text = "Define A 'two words'\nDefine D Direc\n${D}tive ${A} ${HOME}/x ${N}\n${GIVEN}";
        let (items, findings) = read_with(text.as_bytes(), files);
        assert_eq!(
            items,
            ["3: Directive two words /home/a/x ${A}", "4: ${GIVEN} "]
        );
        // A name that was only defined for <IfDefine> has no value.
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("main.conf:4: warning: \"${GIVEN}\""));
    }

    #[test]
    fn an_unknown_variable_stays_as_it_is() {
        let (items, findings) = read_text("A ${X} ${m:k} ${ $X {X} ${a${GIVEN2}");
        assert_eq!(items, ["1: A ${X} ${m:k} ${ $X {X} ${a${GIVEN2}"]);
        // X, what stands between "${ $X {" and "}", and two that are nested; never the lookup in a map.
        assert_eq!(findings.len(), 4, "{findings:?}");
        assert!(findings.iter().all(|finding| !finding.contains("m:k")));
    }

    #[test]
    fn define_holds_from_its_line_on_and_can_be_taken_back() {
        let text = "<IfDefine X>\nA\n</IfDefine>\n<VirtualHost a>\nDefine X 1\n</VirtualHost>\n\
                    <IfDefine X>\nB\n</IfDefine>\nUnDefine X\n<IfDefine !X>\nC\n</IfDefine>\n\
                    UnDefine GIVEN\n<IfDefine GIVEN>\nD\n</IfDefine>";
        assert_eq!(items(text), ["4: <VirtualHost> a", "8: B ", "12: C "]);
    }

    #[test]
    fn define_refuses_names_that_no_variable_can_have() {
        let (_, findings) = read_text("Define a:b c\nDefine\nDefine a b c\nUnDefine");
        assert_eq!(findings.len(), 4, "{findings:?}");
    }

    #[test]
    fn conditions_nest_and_what_they_skip_is_only_balanced() {
        let text = "<IfDefine GIVEN>\nA\n<IfDefine !GIVEN>\nInclude none\n<Bogus \n${X}\n\"\n<IfModule x>\n\
                    </IfModule>\n</Bogus>\n</IfDefine>\nB\n</IfDefine>\nC";
        assert_eq!(items(text), ["2: A ", "12: B ", "14: C "]);
    }

    #[test]
    fn modules_count_by_file_and_by_identifier() {
        for (name, holds) in [
            ("mod_proxy.c", true),
            ("proxy_wstunnel_module", true),
            ("!mod_proxy_http.c", false),
            ("\"mod_log_config.c\"", true),
            ("mod_php.c", false),
            ("!mod_php.c", true),
            ("MOD_PROXY.c", false),
        ] {
            let found = !items(&format!("<IfModule {name}>\nA\n</IfModule>")).is_empty();
            assert_eq!(found, holds, "{name}");
        }
        assert_eq!(has_module("mod_ssl.c"), cfg!(feature = "tls"));
    }

    #[test]
    fn files_are_asked_for_below_the_server_root() {
        let files = Fake::with(&[("/srv/a/x", "")]);
        let text = b"ServerRoot /srv/a\n<IfFile x>\nA\n</IfFile>\n<IfFile !/srv/y>\nB\n</IfFile>";
        let (items, findings) = read_with(text, files);
        assert_eq!(items, ["1: ServerRoot /srv/a", "3: A ", "6: B "]);
        assert_eq!(findings, [] as [&str; 0]);
    }

    #[test]
    fn sections_hold_what_is_inside() {
        let text = "<A x y>\nB\n<a>\n</A>\n</a >\n<C \"x>y\" > # z\n</C>";
        assert_eq!(
            items(text),
            ["1: <A> x y", "  2: B ", "  3: <a> ", "6: <C> \"x>y\""]
        );
    }

    #[test]
    fn a_section_that_does_not_end_as_it_should_is_found() {
        for (text, expected) in [
            (
                "<A>\nB",
                vec!["main.conf:1: <A>: the section has no end; write </A> in the same file"],
            ),
            ("</A>", vec!["main.conf:1: </A>: there is no <A> to end"]),
            ("<A>\n</B>\n</A>", vec!["main.conf:2: </B>: expected </A>"]),
            (
                "<A>\n<B>\n</A>",
                vec!["main.conf:2: <B>: the section has no end; write </B> in the same file"],
            ),
            (
                "<A x\n</A>",
                vec!["main.conf:1: <A>: the line has no \">\" at its end"],
            ),
            (
                "<A>\n</A",
                vec!["main.conf:2: </A>: the line has no \">\" at its end"],
            ),
            (
                "<",
                vec![
                    "main.conf:1: <>: the line has no \">\" at its end",
                    "main.conf:1: a name is missing behind \"<\"",
                ],
            ),
            (
                "<IfDefine>\n</IfDefine>",
                vec![
                    "main.conf:1: <IfDefine>: expected one name, with \"!\" before it for \"not\", found \"\"",
                ],
            ),
        ] {
            assert_eq!(read_text(text).1, expected, "{text}");
        }
    }

    #[test]
    fn includes_are_read_in_their_place() {
        let files = Fake::with(&[
            ("/etc/proxy-wstunnel/d/1", "A\nInclude e"),
            ("/etc/proxy-wstunnel/d/2", "B"),
            ("/etc/proxy-wstunnel/e", "E"),
        ]);
        let text = b"<S>\nInclude d/*\n</S>\nIncludeOptional none\nIncludeOptional no*\nX";
        let (items, findings) = read_with(text, files);
        assert_eq!(items, ["1: <S> ", "  1: A ", "  1: E ", "  1: B ", "6: X "]);
        assert_eq!(findings, [] as [&str; 0]);
    }

    #[test]
    fn an_include_that_finds_nothing_is_an_error_at_its_line() {
        let (_, findings) = read_text("A\nInclude none\nInclude no*\nInclude\nInclude a b");
        assert_eq!(findings.len(), 4, "{findings:?}");
        assert_eq!(
            findings[0],
            "main.conf:2: Include: there is no file \"/etc/proxy-wstunnel/none\"; IncludeOptional would not mind"
        );
    }

    #[test]
    fn a_file_that_includes_itself_twice_ends_in_one_error() {
        let text = "Include /x\nInclude /x\n";
        let (_, findings) = read_with(text.as_bytes(), Fake::with(&[("/x", text)]));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("/x:1: Include: "));
    }

    #[test]
    fn sections_end_in_the_file_where_they_begin() {
        let files = Fake::with(&[("/begin", "<A>"), ("/end", "</A>")]);
        let (items, findings) = read_with(b"Include /begin\nB\nInclude /end", files);
        assert_eq!(items, ["1: <A> ", "2: B "]);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_only_where_they_count() {
        let text = b"# caf\xe9\nA \xe9\n<IfDefine no>\nB \xe9\n</IfDefine>\nC\0\nD";
        let (items, findings) = read_with(text, Fake::default());
        assert_eq!(items, ["7: D "]);
        assert_eq!(
            findings,
            [
                "main.conf:2: the line is not UTF-8 text; save the file in UTF-8",
                "main.conf:6: the line holds a NUL byte",
            ]
        );
    }

    #[test]
    fn a_logical_line_ends_at_sixteen_mebibytes() {
        let mut text = "A ".to_owned() + &"x".repeat(MAX_LINE - 2);
        assert_eq!(items(&text).len(), 1);
        text.push('x');
        let (items, findings) = read_text(&(text + "\nB"));
        assert_eq!(items, ["2: B "]);
        assert_eq!(
            findings,
            ["main.conf:1: the line is longer than 16777216 bytes"]
        );
    }

    #[test]
    fn a_server_root_is_an_absolute_folder_outside_of_sections() {
        let (_, findings) =
            read_text("ServerRoot none\nServerRoot /none\nServerRoot\n<S>\nServerRoot x\n</S>");
        assert_eq!(findings.len(), 3, "{findings:?}");
    }

    #[test]
    fn random_text_never_panics() {
        let pieces = [
            "<",
            ">",
            "</",
            "A",
            "IfDefine",
            " ",
            "\\",
            "\n",
            "\r\n",
            "\"",
            "'",
            "${",
            "}",
            "#",
            "!",
            "Include /x",
            "Define",
            "\u{e9}",
            "\0",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(pieces[usize::try_from(state % pieces.len() as u64).unwrap()]);
            }
            let (_, _) = read_with(text.as_bytes(), Fake::with(&[("/x", "A\n<")]));
            let _ = words(&text);
        }
    }
}
