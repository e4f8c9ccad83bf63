//! What the configuration says about a request once its path and its backend are known: the virtual host's settings, with
//! the changes of each `<Proxy>` and `<Location>` that applies, in this order.

use super::access::Access;
use super::edit::HeaderEdit;
use super::reverse::Reverse;
use super::set_env::{SetEnvIf, Variable};
use crate::http::document::Document;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How one request and its tunnel are dealt with.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a directive that is on or off, whatever the others are"
)]
pub struct Settings {
    /// `ProxyPreserveHost`
    pub preserve_host: bool,
    /// `ProxyAddHeaders`
    pub add_headers: bool,
    /// `Require`, `Order`, `Allow` and `Deny`
    pub access: Access,
    /// `ProxyVia`
    pub via: Via,
    /// `SetEnvIf` and its kin in sections, in the order of the lines. Those outside of sections hold before it is known
    /// which sections apply: they are in [`Router::set_env_if`](super::Router::set_env_if).
    pub set_env_if: Vec<Arc<SetEnvIf>>,
    /// `SetEnv` and `PassEnv`, but for what `UnsetEnv` has taken out.
    pub variables: Vec<Arc<Variable>>,
    /// `RequestHeader`, in the order of the lines.
    pub request_edits: Vec<Arc<HeaderEdit>>,
    /// `ProxyPassReverse`, `ProxyPassReverseCookieDomain`, `ProxyPassReverseCookiePath`, in the order of the lines.
    pub reverse: Vec<Arc<Reverse>>,
    /// `Header`, in the order of the lines.
    pub answer_edits: Vec<Arc<HeaderEdit>>,
    /// `ErrorDocument`, each status once.
    pub documents: Vec<(u16, Arc<Document>)>,
    /// `ProxyErrorOverride`
    pub error_override: ErrorOverride,
    /// `ProxyWebsocketIdleTimeout`; none: a tunnel may be silent for ever.
    pub idle_timeout: Option<Duration>,
    /// `ProxyWebsocketHalfCloseTimeout`, more than zero.
    pub half_close_timeout: Duration,
    /// `ProxyWebsocketMaxLifetime`; none: a tunnel may get any age.
    pub lifetime: Option<Lifetime>,
    /// `ProxyWebsocketAsync`
    pub asynchronous: bool,
    /// `ProxyWebsocketAsyncDelay`; zero: at once.
    pub async_delay: Duration,
    /// `LimitRequestBody`, bytes of a request's body; none: as many as come.
    pub body_limit: Option<u64>,
    /// `Proxy100Continue`: whether the backend is asked what `Expect: 100-continue` asks; else we answer that.
    pub passes_expect: bool,
    /// `SetHandler`; none: requests are for backends.
    pub handler: Option<Handler>,
}

/// What of this program itself answers. httpd: `SetHandler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// What it does at the moment. httpd: mod_status.
    ServerStatus,
}

impl Handler {
    /// Parses what stands behind `SetHandler`: a name, or that there is to be none.
    ///
    /// # Errors
    /// A sentence that says what was found, and what to do instead.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        if is("server-status") {
            return Ok(Some(Self::ServerStatus));
        }
        if is("none") {
            return Ok(None);
        }
        let remedy = if is("balancer-manager") {
            "server-status shows the members of balancers, and \"proxy-wstunnel --drain MEMBER\" takes one out of use"
        } else if is("server-info") {
            "\"proxy-wstunnel -S\" shows what is configured"
        } else if text.to_ascii_lowercase().starts_with("proxy:") {
            "write a ProxyPass with the URL behind \"proxy:\""
        } else {
            "this program serves no files and runs no other programs; remove the line"
        };
        Err(format!(
            "no handler is called \"{text}\"; expected server-status or none: {remedy}"
        ))
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerStatus => "server-status",
        })
    }
}

/// How old a tunnel may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The most.
    pub most: Duration,
    /// What may be taken off, less than `most`: tunnels that came together do not end together.
    pub spread: Duration,
}

impl Lifetime {
    /// How old one tunnel may get for which `draw` was drawn; down to milliseconds, which is enough, and can be read.
    #[must_use]
    pub fn drawn(&self, draw: u32) -> Duration {
        let part = f64::from(draw) / f64::from(u32::MAX);
        let off = self.spread.mul_f64(part);
        let in_milliseconds = Duration::new(off.as_secs(), off.subsec_millis() * 1_000_000);
        self.most.saturating_sub(in_milliseconds)
    }
}

/// Whether messages that pass tell that they came through here. httpd: `ProxyVia`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// They do not; what others wrote there passes.
    #[default]
    Off,
    /// Our name is added.
    On,
    /// Our name, and which program and version this is.
    Full,
    /// Requests lose all that others wrote there. Answers keep it, as in httpd.
    Block,
}

/// Which answers of backends the client does not get, but ours of the same status. httpd: `ProxyErrorOverride`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorOverride {
    /// None.
    #[default]
    Off,
    /// All errors: 400 to 599.
    All,
    /// Those with one of these statuses.
    Only(Arc<[u16]>),
}

impl ErrorOverride {
    /// Whether an answer of this status is one of them.
    #[must_use]
    pub fn replaces(&self, status: u16) -> bool {
        match self {
            Self::Off => false,
            Self::All => (400..=599).contains(&status),
            Self::Only(statuses) => statuses.contains(&status),
        }
    }
}

/// One directive that stands in a section, or in the host itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// [`Settings::preserve_host`]
    PreserveHost(bool),
    /// [`Settings::add_headers`]
    AddHeaders(bool),
    /// [`Settings::access`], all lines of a section together.
    Access(Access),
    /// [`Settings::via`]
    Via(Via),
    /// One more of [`Settings::set_env_if`].
    SetEnvIf(Arc<SetEnvIf>),
    /// One of [`Settings::variables`], in place of one of the same name.
    SetEnv(Arc<Variable>),
    /// The variable of this name is none of [`Settings::variables`].
    UnsetEnv(Arc<str>),
    /// One more of [`Settings::request_edits`].
    RequestHeader(Arc<HeaderEdit>),
    /// One more of [`Settings::reverse`].
    Reverse(Arc<Reverse>),
    /// One more of [`Settings::answer_edits`].
    Header(Arc<HeaderEdit>),
    /// What [`Settings::documents`] has for this status; none: our own sentence.
    Document(u16, Option<Arc<Document>>),
    /// [`Settings::error_override`]
    ErrorOverride(ErrorOverride),
    /// [`Settings::idle_timeout`]
    IdleTimeout(Option<Duration>),
    /// [`Settings::half_close_timeout`]
    HalfCloseTimeout(Duration),
    /// [`Settings::lifetime`]
    Lifetime(Option<Lifetime>),
    /// [`Settings::asynchronous`]
    Asynchronous(bool),
    /// [`Settings::async_delay`]
    AsyncDelay(Duration),
    /// [`Settings::body_limit`]
    BodyLimit(Option<u64>),
    /// [`Settings::passes_expect`]
    PassesExpect(bool),
    /// [`Settings::handler`]
    Handler(Option<Handler>),
}

impl Settings {
    /// Lets a directive have its effect over what was set before.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PreserveHost(on) => self.preserve_host = *on,
            Change::AddHeaders(on) => self.add_headers = *on,
            Change::Access(access) => self.access = access.over(&self.access),
            Change::Via(via) => self.via = *via,
            Change::SetEnvIf(line) => self.set_env_if.push(Arc::clone(line)),
            Change::SetEnv(variable) => {
                self.unset(&variable.name);
                self.variables.push(Arc::clone(variable));
            }
            Change::UnsetEnv(name) => self.unset(name),
            Change::RequestHeader(edit) => self.request_edits.push(Arc::clone(edit)),
            Change::Reverse(line) => self.reverse.push(Arc::clone(line)),
            Change::Header(edit) => self.answer_edits.push(Arc::clone(edit)),
            Change::Document(status, document) => {
                self.documents.retain(|(own, _)| own != status);
                let document = document.iter().map(|page| (*status, Arc::clone(page)));
                self.documents.extend(document);
            }
            Change::ErrorOverride(which) => self.error_override = which.clone(),
            Change::IdleTimeout(limit) => self.idle_timeout = *limit,
            Change::HalfCloseTimeout(limit) => self.half_close_timeout = *limit,
            Change::Lifetime(lifetime) => self.lifetime = *lifetime,
            Change::Asynchronous(on) => self.asynchronous = *on,
            Change::AsyncDelay(delay) => self.async_delay = *delay,
            Change::BodyLimit(limit) => self.body_limit = *limit,
            Change::PassesExpect(on) => self.passes_expect = *on,
            Change::Handler(handler) => self.handler = *handler,
        }
    }

    fn unset(&mut self, name: &str) {
        let variables = &mut self.variables;
        variables.retain(|variable| !variable.name.eq_ignore_ascii_case(name));
    }

    /// What stands in place of our sentence in an error of this status.
    #[must_use]
    pub fn document(&self, status: u16) -> Option<&Document> {
        let found = self.documents.iter().find(|(own, _)| *own == status);
        found.map(|(_, document)| document.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_a_name_and_what_httpd_has_else_is_refused_with_a_way_out() {
        let server_status = Ok(Some(Handler::ServerStatus));
        assert_eq!(Handler::parse("server-status"), server_status);
        assert_eq!(Handler::parse("Server-Status"), server_status);
        assert_eq!(Handler::parse("None"), Ok(None));
        for (text, way_out) in [
            ("balancer-manager", "--drain"),
            ("server-info", "-S"),
            ("proxy:ws://localhost:9000", "ProxyPass"),
            ("cgi-script", "remove the line"),
            ("", "expected server-status or none"),
        ] {
            let problem = Handler::parse(text).unwrap_err();
            assert!(problem.contains(way_out), "{problem}");
        }
    }

    #[test]
    fn an_override_is_for_errors_or_for_some_of_them() {
        let some = ErrorOverride::Only([404, 500].into());
        for (status, by_all, by_some) in [
            (101, false, false),
            (399, false, false),
            (400, true, false),
            (404, true, true),
            (500, true, true),
            (599, true, false),
            (600, false, false),
        ] {
            assert!(!ErrorOverride::Off.replaces(status));
            assert_eq!(ErrorOverride::All.replaces(status), by_all, "{status}");
            assert_eq!(some.replaces(status), by_some, "{status}");
        }
    }

    #[test]
    fn lifetimes_lie_between_the_most_and_the_most_less_the_spread() {
        let seconds = Duration::from_secs;
        let lifetime = Lifetime {
            most: seconds(100),
            spread: seconds(10),
        };
        assert_eq!(lifetime.drawn(0), seconds(100));
        assert_eq!(lifetime.drawn(u32::MAX), seconds(90));
        let middle = lifetime.drawn(u32::MAX / 2);
        assert!(middle.abs_diff(seconds(95)) <= Duration::from_millis(1));
        assert_eq!(middle.subsec_nanos() % 1_000_000, 0);
        let none = Lifetime {
            spread: Duration::ZERO,
            ..lifetime
        };
        assert_eq!(none.drawn(u32::MAX), seconds(100));
    }

    #[test]
    fn the_last_document_of_a_status_counts_and_default_takes_it_away() {
        let text = |text| Some(Arc::new(Document::text(text).unwrap()));
        let mut settings = Settings::default();
        settings.apply(&Change::Document(404, text("one")));
        settings.apply(&Change::Document(403, text("other")));
        settings.apply(&Change::Document(404, text("two")));
        assert_eq!(settings.document(404), text("two").as_deref());
        assert_eq!(settings.documents.len(), 2);
        settings.apply(&Change::Document(404, None));
        assert_eq!(settings.document(404), None);
        assert_eq!(settings.document(403), text("other").as_deref());
    }
}
