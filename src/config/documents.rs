//! `ErrorDocument`, `DocumentRoot` and `ProxyErrorOverride`: what clients get in place of an error.
//!
//! A page is read while the configuration is, once for all hosts that have it. Where it lies is known when a host's lines
//! are all read: `DocumentRoot` may stand behind them, and a virtual host may have another one than the main server whose
//! `ErrorDocument` it inherits.

use super::draft::Scope;
use super::findings::{Findings, Origin};
use super::syntax::Files;
use super::value;
use crate::http::document::{self, Document};
use crate::route::settings::{Change, ErrorOverride};
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One line of `ErrorDocument`.
#[derive(Debug, Clone)]
pub(super) struct DocumentDraft {
    status: u16,
    what: What,
    at: Origin,
}

#[derive(Debug, Clone)]
enum What {
    /// Our own sentence.
    Default,
    Ready(Arc<Document>),
    /// A file below `DocumentRoot`, as it is written.
    File(String),
}

/// `DocumentRoot`, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocumentRoot {
    path: PathBuf,
    at: Origin,
}

/// The pages that were read so far, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Library(BTreeMap<PathBuf, Result<Arc<Document>, String>>);

/// What it takes to know the pages of one host.
pub(super) struct Pages<'a> {
    pub(super) library: &'a mut Library,
    pub(super) files: &'a dyn Files,
    pub(super) root: Option<&'a DocumentRoot>,
    pub(super) findings: &'a mut Findings,
}

/// httpd core.c `set_error_document`. Statuses are not held to those that it knows: 418 is a status as well.
pub(super) fn error_document(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [status, text] = words else {
        return Err(match words {
            [_] => "expected a text, a path or a URL behind the status".to_owned(),
            _ => "expected one word behind the status; put quotes around a text of several words"
                .to_owned(),
        });
    };
    let status = value::integer(status, 400..=599)?;
    let what = if text.is_empty() {
        return Err("expected a text, a path or a URL, found \"\"".to_owned());
    } else if text.contains("%{") {
        return Err(format!(
            "\"{text}\": expressions are not supported; leave out what begins with \"%{{\""
        ));
    } else if text.eq_ignore_ascii_case("default") {
        What::Default
    } else if text.contains(' ') {
        // httpd: whatever it begins with.
        What::Ready(Arc::new(Document::text(text)?))
    } else if text.starts_with('/') {
        check_path(text)?;
        What::File((*text).to_owned())
    } else if is_url(text) && status == 401 {
        // httpd: ignores the line, and says so.
        return Err(format!(
            "\"{text}\": a client that is led elsewhere is not asked for its password; expected a text or a path for 401"
        ));
    } else if is_url(text) {
        What::Ready(Arc::new(Document::elsewhere(text)?))
    } else {
        if text.contains('/') || document::is_named_as_page(text) {
            scope.warn(format!(
                "\"{text}\" is sent as a text; a file begins with \"/\", and the URL of a page with http:// or https://"
            ));
        }
        What::Ready(Arc::new(Document::text(text)?))
    };
    let draft = DocumentDraft {
        status,
        what,
        at: scope.at.clone(),
    };
    match &mut scope.section {
        Some(section) => section.documents.push(draft),
        None => scope.host.documents.push(draft),
    }
    Ok(())
}

/// Whether httpd takes it for a URL: letters, digits and `+-.` before `://` (server/util.c `ap_is_url`).
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        !scheme.is_empty() && scheme.bytes().all(is_letter)
    })
}

/// httpd: a path is a URL of the server, which may be decoded, mapped, made by a program or fetched from a backend. Here it
/// is the name of a file.
fn check_path(text: &str) -> Result<(), String> {
    if text.contains(['?', '%']) {
        return Err(format!(
            "\"{text}\": expected the name of a file below DocumentRoot, which has no query and is not decoded"
        ));
    }
    if text.split('/').any(|step| step == "..") {
        return Err(format!(
            "\"{text}\": expected a file below DocumentRoot, which \"..\" may leave"
        ));
    }
    Ok(())
}

pub(super) fn document_root(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let path = scope.path(text)?;
    let at = scope.at.clone();
    scope.host.document_root = Some(DocumentRoot { path, at });
    scope.note(
        "only ErrorDocument has files there: no others are served, and what is not mapped is answered with 404",
    );
    Ok(())
}

/// httpd mod_proxy.c `set_proxy_error_override`: the statuses of several lines in the same place add up.
pub(super) fn error_override(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (on, codes) = match words {
        [switch, codes @ ..] => (value::on_off(switch)?, codes),
        [] => (false, words),
    };
    let mut statuses: Vec<u16> = Vec::new();
    for code in codes {
        statuses.push(value::integer(code, 400..=599)?);
    }
    if !on && !statuses.is_empty() {
        return Err("statuses have to stand behind On; with Off nothing is replaced".to_owned());
    }
    let own = match &mut scope.section {
        Some(section) => &mut section.error_override,
        None => &mut scope.host.error_override,
    };
    if let ErrorOverride::Only(before) = own {
        statuses.extend_from_slice(before);
    }
    statuses.sort_unstable();
    statuses.dedup();
    *own = match (on, statuses.is_empty()) {
        (false, _) => ErrorOverride::Off,
        (true, true) => ErrorOverride::All,
        (true, false) => ErrorOverride::Only(statuses.into()),
    };
    let own = own.clone();
    scope.change(Change::ErrorOverride(own));
    Ok(())
}

impl DocumentDraft {
    /// Whether what it means depends on where it is read.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.what, What::File(_))
    }
}

impl Pages<'_> {
    /// What the lines of one place come to; of several for a status, the last.
    pub(super) fn changes(&mut self, drafts: &[DocumentDraft]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut rest = drafts;
        while let [draft, behind @ ..] = rest {
            rest = behind;
            if behind.iter().any(|later| later.status == draft.status) {
                continue;
            }
            let document = match &draft.what {
                What::Default => Ok(None),
                What::Ready(document) => Ok(Some(Arc::clone(document))),
                What::File(name) => self.page(name).map(Some),
            };
            match document {
                Ok(document) => changes.push(Change::Document(draft.status, document)),
                Err(problem) => self.findings.error(&draft.at, "ErrorDocument", problem),
            }
        }
        changes
    }

    fn page(&mut self, name: &str) -> Result<Arc<Document>, String> {
        let Some(root) = self.root else {
            return Err(format!(
                "\"{name}\" is a file below DocumentRoot, and there is none; write DocumentRoot, or the text itself"
            ));
        };
        let path = root.path.join(name.trim_start_matches('/'));
        let page = match self.library.0.entry(path) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let page = read_page(self.files, entry.key());
                entry.insert(page)
            }
        };
        page.clone().map_err(|problem| {
            format!(
                "{problem}; a page is a file below DocumentRoot ({}), and comes from no backend",
                root.at
            )
        })
    }
}

fn read_page(files: &dyn Files, path: &Path) -> Result<Arc<Document>, String> {
    let content = files
        .read_regular(path, document::LONGEST)
        .map_err(|cause| format!("cannot read \"{}\": {cause}", path.display()))?;
    Document::file(&path.to_string_lossy(), content).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::super::{Config, Sources, VirtualHost, load};
    use super::*;
    use crate::route::settings::Settings;

    fn config(text: &str) -> Config {
        let files = [
            ("test.conf", text),
            ("/etc/proxy-wstunnel/www/404.html", "main"),
            ("/srv/404.html", "other"),
        ];
        let sources = Sources {
            file: Some("test.conf".into()),
            ..Sources::default()
        };
        load(&sources, &Fake::with(&files)).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn body(settings: &Settings, status: u16) -> Option<&str> {
        match settings.document(status)? {
            Document::Page(page) => Some(std::str::from_utf8(&page.body).unwrap()),
            Document::Elsewhere(url) => Some(url),
        }
    }

    fn in_location(host: &VirtualHost, place: usize) -> Settings {
        let router = &host.router;
        let mut settings = router.settings.clone();
        for change in &router.locations[place].changes {
            settings.apply(change);
        }
        settings
    }

    #[test]
    fn a_page_is_found_below_the_document_root_of_its_host() {
        let config = config(
            "Listen 80\nErrorDocument 404 /404.html\n<Location /a>\nErrorDocument 410 /404.html\n</Location>\n\
             <VirtualHost *:80>\n</VirtualHost>\n\
             <VirtualHost *:80>\nDocumentRoot /srv\nErrorDocument 403 no\n</VirtualHost>\n\
             DocumentRoot www\n",
        );
        let [first, second] = config.virtual_hosts.as_slice() else {
            panic!("two hosts");
        };
        for (host, expected) in [(&config.main, "main"), (first, "main"), (second, "other")] {
            assert_eq!(body(&host.router.settings, 404), Some(expected));
            assert_eq!(body(&host.router.settings, 410), None);
            assert_eq!(body(&in_location(host, 0), 410), Some(expected));
        }
        assert_eq!(body(&second.router.settings, 403), Some("no"));
        assert_eq!(body(&first.router.settings, 403), None);
        // However many hosts have a page, it is there once.
        let page = |host: &VirtualHost| Arc::as_ptr(&host.router.settings.documents[0].1);
        assert_eq!(page(&config.main), page(first));
        let place = |host: &VirtualHost| Arc::as_ptr(&host.router.locations[0]);
        assert_eq!(place(&config.main), place(first));
        assert_ne!(place(&config.main), place(second));
    }

    #[test]
    fn a_word_is_a_text_a_url_or_what_is_usual() {
        let config = config(
            "Listen 80\nErrorDocument 404 Gone.\nErrorDocument 403 HTTP://a.example/b\nErrorDocument 500 '/a b'\n\
             ErrorDocument 502 x\nErrorDocument 401 \"http://a b\"\nErrorDocument 599 \"100% <i>sure</i>\"\n\
             <Location /a>\nErrorDocument 404 DEFAULT\nErrorDocument 502 y\n</Location>\n",
        );
        let settings = &config.main.router.settings;
        for (status, expected) in [
            (404, "Gone."),
            (403, "HTTP://a.example/b"),
            (500, "/a b"),
            (502, "x"),
            (401, "http://a b"),
            (599, "100% <i>sure</i>"),
        ] {
            assert_eq!(body(settings, status), Some(expected));
        }
        assert_eq!(settings.document(403).unwrap().status(403), 302);
        assert_eq!(settings.document(401).unwrap().status(401), 401);
        let inside = in_location(&config.main, 0);
        assert_eq!(body(&inside, 404), None);
        assert_eq!(body(&inside, 502), Some("y"));
        assert_eq!(body(&inside, 403), Some("HTTP://a.example/b"));
        let summary = config.summary();
        for line in [
            "  error 404 is 5 bytes of text/html; charset=iso-8859-1",
            "  error 403 leads to HTTP://a.example/b",
            "    error 404 as usual",
        ] {
            assert!(summary.lines().any(|l| l == line), "{line}\n{summary}");
        }
    }

    #[test]
    fn statuses_of_an_override_add_up_in_one_place_and_are_inherited_as_one() {
        let config = config(
            "Listen 80\nProxyErrorOverride On 500 404\nProxyErrorOverride on 404 502\n\
             <Location /a>\nProxyErrorOverride On\n</Location>\n\
             <Location /b>\nProxyErrorOverride On 403\nProxyErrorOverride On 401\n</Location>\n\
             <Location /c>\nProxyErrorOverride Off\n</Location>\n\
             <VirtualHost *:80>\nProxyErrorOverride On 418\n</VirtualHost>\n\
             <VirtualHost *:80>\n</VirtualHost>\n",
        );
        let only = |statuses: &[u16]| ErrorOverride::Only(statuses.into());
        let main = &config.main;
        assert_eq!(main.router.settings.error_override, only(&[404, 500, 502]));
        for (place, expected) in [
            (0, ErrorOverride::All),
            (1, only(&[401, 403])),
            (2, ErrorOverride::Off),
        ] {
            assert_eq!(in_location(main, place).error_override, expected);
        }
        let of = |host: usize| &config.virtual_hosts[host].router.settings.error_override;
        assert_eq!(*of(0), only(&[418]));
        assert_eq!(*of(1), only(&[404, 500, 502]));
    }
}
