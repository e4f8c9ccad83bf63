//! `RewriteRule`: a pattern, what becomes of a path in which it is found, and flags. Source: httpd mod_rewrite.c
//! `cmd_rewriterule`, `apply_rewrite_rule`.

use super::condition::Condition;
use super::flags::{self, Escape, Flag};
use super::redirect::{self, Scheme};
use super::text::{Piece, Text, Values, percent_encoded};
use super::variable::{Plain, Variable};
use super::{Review, written};
use crate::balancer::{Balancer, Settings};
use crate::http::answer::Refusal;
use crate::ids::Id;
use crate::route::backend::{Backend, Parameters};
use crate::route::destination::{Destination, ProxyUrl};
use crate::route::pattern::{Case, Pattern};
use crate::route::url::{BackendUrl, KEPT_SLASH, encoded, has_no_dot_segments, push_escape};
use std::fmt;
use std::sync::Arc;

/// One rule with its conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(super) pattern: Pattern,
    /// `!`: it matches where the pattern is not found.
    pub(super) is_negated: bool,
    pub(super) conditions: Vec<Condition>,
    pub(super) effect: Effect,
    /// What stands behind the `?` of the substitution.
    query: Option<Text>,
    pub(super) flags: Vec<Flag>,
    escape: Option<Escape>,
    /// How logs name it: `RewriteRule "^/?(.*)"`.
    pub name: Arc<str>,
    /// Where it was configured: `file:line`.
    pub origin: String,
    /// The words as they were written.
    line: String,
}

/// What a rule does with a request that it matches, beside what its flags say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// `-`: the path stays as it is.
    Keep,
    /// It becomes another path.
    Path(Text),
    /// `P`
    Proxy(Proxy),
    /// `R`, or a substitution that is a URL of its own.
    Redirect(Redirect),
    /// `F`, `G`, `R=404`
    Refuse(u16),
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Redirect {
    pub(super) status: u16,
    scheme: Scheme,
    /// The path, with the host before it if there is a scheme.
    rest: Text,
}

/// The way to a backend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proxy {
    pub(super) to: Destination,
    /// What stands behind its URL.
    rest: Text,
}

impl Rule {
    /// Reads the three words of a line; `conditions` are those of the lines before it. Problems and doubts go to `review`.
    pub fn parse(
        [pattern, substitution, flags]: [&str; 3],
        conditions: Vec<Condition>,
        origin: String,
        review: &mut Review<'_>,
    ) -> Option<Self> {
        let line = written([pattern, substitution, flags]);
        let name = format!("RewriteRule \"{pattern}\"").into();
        let flags = flags::of_rule(flags, review);
        let case = if flags.contains(&Flag::NoCase) {
            Case::Insensitive
        } else {
            Case::Sensitive
        };
        let (is_negated, bare) = match pattern.strip_prefix('!') {
            Some(bare) => (true, bare),
            None => (false, pattern),
        };
        let pattern = review.take(Pattern::parse(bare, case));
        let escape = review.take(Escape::of(&flags));
        let substituted = review.take(substitution_of(substitution, &flags, review));
        let (effect, query) = substituted?;
        let rule = Self {
            pattern: pattern?,
            is_negated,
            conditions,
            effect,
            query,
            flags,
            escape: escape?,
            name,
            origin,
            line,
        };
        rule.doubt(substitution, review);
        Some(rule)
    }

    pub(super) fn has(&self, flag: &Flag) -> bool {
        self.flags.contains(flag)
    }

    /// The conditions, in their order.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Where it leads, if to a backend or a balancer; of either, nothing is known yet but the URL, until
    /// [`Self::set_destination`] has said the rest. What a request adds to the URL is no part of it.
    pub fn destination(&self) -> Option<&Destination> {
        match &self.effect {
            Effect::Proxy(proxy) => Some(&proxy.to),
            _ => None,
        }
    }

    /// Says what is configured elsewhere about where it leads.
    pub fn set_destination(&mut self, to: Destination) {
        if let Effect::Proxy(proxy) = &mut self.effect {
            proxy.to = to;
        }
    }

    /// Whether its new path would be looked for among files, if no rule behind it says otherwise.
    pub fn leads_to_a_file(&self) -> bool {
        matches!(self.effect, Effect::Path(_)) && !self.has(&Flag::PassOn)
    }

    /// Whether it ends what rules make of a request, or hands it on.
    pub fn decides(&self) -> bool {
        !matches!(self.effect, Effect::Keep | Effect::Path(_)) || self.has(&Flag::PassOn)
    }

    /// Whether no rule behind it is looked at where it matches.
    pub fn is_last(&self) -> bool {
        self.has(&Flag::Last)
    }

    /// The path and the query that it makes.
    pub(super) fn rewritten(
        &self,
        text: &Text,
        values: &Values<'_>,
    ) -> Result<(Vec<u8>, Option<String>), Refusal> {
        let path = text.expand(values, self.escape.as_ref())?;
        self.with_query(path, values)
    }

    fn with_query(
        &self,
        mut path: Vec<u8>,
        values: &Values<'_>,
    ) -> Result<(Vec<u8>, Option<String>), Refusal> {
        let mut query = match &self.query {
            Some(query) => Some(query.expand(values, self.escape.as_ref())?),
            None => None,
        };
        if self.has(&Flag::AllowQuestionMark)
            && let Some(place) = path.iter().position(|byte| *byte == b'?')
        {
            let mut own = path.split_off(place);
            own.remove(0);
            if let Some(configured) = query {
                own.push(b'?');
                own.extend_from_slice(&configured);
            }
            query = Some(own);
        }
        Ok((path, self.new_query(query, values.query)))
    }

    /// The query of a request, once this rule has had its say (httpd `splitout_queryargs`).
    fn new_query(&self, own: Option<Vec<u8>>, old: Option<&str>) -> Option<String> {
        let old = old.filter(|_| !self.has(&Flag::DiscardQuery));
        let Some(own) = own else {
            return old.map(str::to_owned);
        };
        let mut query = String::with_capacity(own.len());
        // A redirection may lead to a fragment.
        let keeps_fragment =
            matches!(self.effect, Effect::Redirect(_)) && self.has(&Flag::NoEscape);
        for byte in own {
            match byte {
                b'#' if keeps_fragment => query.push('#'),
                _ => push_raw(byte, &mut query),
            }
        }
        if self.has(&Flag::AppendQuery) {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(old.unwrap_or_default());
        }
        if query.ends_with('&') {
            query.pop();
        }
        (!query.is_empty()).then_some(query)
    }

    /// The target for the backend of `proxy`.
    pub(super) fn target(&self, proxy: &Proxy, values: &Values<'_>) -> Result<String, Refusal> {
        let is_raw = self.has(&Flag::NoEscape);
        let rest = if is_raw && self.escape.is_none() {
            // What is decoded here must not be decoded once more by the backend: it would find another path than the rules
            // of access did.
            // httpd: lets "%2573" become "%73", which is an "s" to the backend.
            let (path, groups) = (
                percent_encoded(values.path),
                values.groups.percent_encoded(),
            );
            let values = Values {
                path: &path,
                groups: &groups,
                ..*values
            };
            proxy.rest.expand(&values, None)?
        } else {
            proxy.rest.expand(values, self.escape.as_ref())?
        };
        let (rest, query) = self.with_query(rest, values)?;
        if proxy.to.path().is_empty() && !rest.is_empty() && !rest.starts_with(b"/") {
            return Err(Refusal::new(
                Id::BadTarget,
                "a part of the path would become a part of the host that the rule leads to",
            ));
        }
        let rest = if is_raw {
            let mut raw = String::with_capacity(rest.len());
            for byte in rest {
                match byte {
                    b'?' => push_escape(byte, &mut raw),
                    _ => push_raw(byte, &mut raw),
                }
            }
            raw
        } else {
            encoded(&rest)
        };
        Ok(proxy.to.target(&rest, query.as_deref()))
    }

    /// Where the client is sent.
    pub(super) fn location(
        &self,
        redirect: &Redirect,
        values: &Values<'_>,
    ) -> Result<String, Refusal> {
        let (origin, path) = match &redirect.scheme {
            Scheme::Absent => {
                let path = redirect.rest.expand(values, self.escape.as_ref())?;
                (redirect::own_origin(values), path)
            }
            scheme => {
                let escape = self.escape.as_ref();
                redirect::origin_and_path(scheme, &redirect.rest, values, escape)?
            }
        };
        let (path, query) = self.with_query(path, values)?;
        let is_raw = self.has(&Flag::NoEscape);
        Ok(redirect::location(origin, &path, query.as_deref(), is_raw))
    }

    /// What is legal and probably not meant.
    fn doubt(&self, substitution: &str, review: &mut Review<'_>) {
        let mut doubt = |text: String| review.doubts.push(text);
        let pattern = &self.pattern;
        if let Some(first) = pattern.first_byte()
            && first != b'/'
            && !self.is_negated
        {
            let rest = pattern.as_str().trim_start_matches('^');
            doubt(format!(
                "it never matches: a path begins with \"/\"; write \"^/?{rest}\""
            ));
        }
        if pattern.as_str().contains(r"\?") {
            doubt(
                "the pattern looks for a \"?\", but the path it sees has no query; write RewriteCond %{QUERY_STRING}"
                    .to_owned(),
            );
        }
        if self.conditions.last().is_some_and(|last| last.or_next) {
            doubt(
                "the last condition has OR and nothing to be joined with, so the conditions hold whatever it finds; remove \
                 its OR"
                    .to_owned(),
            );
        }
        if let Effect::Proxy(proxy) = &self.effect {
            let texts = [Some(&proxy.rest), self.query.as_ref()];
            let uses_path = texts.into_iter().flatten().any(Text::has_references);
            if pattern.groups() > 0 && !uses_path {
                doubt(format!(
                    "what the pattern captures is lost: every path leads to \"{substitution}\"; put \"$1\" into it"
                ));
            }
            let replaced = self
                .query
                .as_ref()
                .filter(|query| !query.asks_for(Plain::QueryString));
            if replaced.is_some() && !self.has(&Flag::AppendQuery) && !self.has(&Flag::DiscardQuery)
            {
                doubt("the client's query is lost; add QSA to keep it, or QSD to say that it is not wanted".to_owned());
            }
            if proxy.to.path().ends_with('/')
                && proxy.rest.pieces.first()
                    == Some(&Piece::Variable(Variable::Plain(Plain::RequestUri)))
            {
                doubt("%{REQUEST_URI} begins with \"/\", so the backend is asked for \"//...\"; leave out the \"/\" before it".to_owned());
            }
        }
        if let Effect::Redirect(redirect) = &self.effect
            && let Scheme::Written(scheme) = &redirect.scheme
            && scheme.starts_with("ws")
        {
            doubt(format!(
                "without [P] it is a redirection to \"{substitution}\", which no WebSocket client follows; add the flag P"
            ));
        }
        if self.conditions.is_empty()
            && let Some(escape) = percent_escape(substitution)
        {
            doubt(format!(
                "\"%{escape}\" is what group {} of a condition found, and there is none; an encoded byte is written \"\\%{escape}\"",
                escape.chars().next().unwrap_or_default()
            ));
        }
    }
}

impl fmt::Display for Rule {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RewriteRule {}", self.line)
    }
}

/// `%` with two hexadecimal digits of which the first is decimal, so that it reads as a reference.
fn percent_escape(text: &str) -> Option<&str> {
    text.match_indices('%').find_map(|(place, _)| {
        let digits = text.get(place + 1..place + 3)?;
        let is_escaped = text.get(..place)?.ends_with('\\');
        let is_reference = digits.starts_with(|c: char| c.is_ascii_digit());
        let is_byte = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_reference && is_byte && !is_escaped).then_some(digits)
    })
}

/// What a substitution means with these flags, and its query.
fn substitution_of(
    substitution: &str,
    flags: &[Flag],
    review: &Review<'_>,
) -> Result<(Effect, Option<Text>), String> {
    let proxies = flags.contains(&Flag::Proxy);
    let redirect = flags.iter().find_map(|flag| match flag {
        Flag::Redirect(status) => Some(*status),
        _ => None,
    });
    let refusal = flags.iter().find_map(|flag| match flag {
        Flag::Refuse(status) => Some(*status),
        _ => None,
    });
    let passes_on = flags.contains(&Flag::PassOn);
    let wishes = [proxies, redirect.is_some(), refusal.is_some(), passes_on];
    if wishes.iter().filter(|wish| **wish).count() > 1 {
        return Err("only one of P, R, F, G and PT can be obeyed; remove the others".to_owned());
    }
    if let Some(status) = refusal {
        return Ok((Effect::Refuse(status), None));
    }
    if substitution == "-" {
        return match (proxies, redirect) {
            (false, None) => Ok((Effect::Keep, None)),
            _ => {
                Err("\"-\" leads nowhere; expected a URL or a path as the substitution".to_owned())
            }
        };
    }
    let text = Text::parse(substitution, review)?;
    let (path, query) = text.split_query(flags.contains(&Flag::LastMark));
    if let Some(query) = &query {
        query.check_query()?;
    }
    let is_raw = flags.contains(&Flag::NoEscape);
    let decoded = |text: Text| if is_raw { Ok(text) } else { text.decoded() };
    let effect = if proxies {
        let (url, rest) = backend(path, substitution, review)?;
        Effect::Proxy(Proxy {
            to: bare(url),
            rest: decoded(rest)?,
        })
    } else {
        let mut rest = path;
        match (Scheme::take(&mut rest)?, redirect) {
            (Scheme::Absent, None) => Effect::Path(rest.decoded()?),
            (scheme, status) => Effect::Redirect(Redirect {
                status: status.unwrap_or(302),
                scheme,
                rest: decoded(rest)?,
            }),
        }
    };
    Ok((effect, query))
}

/// The destination at a URL, before anything else is known of it.
fn bare(url: ProxyUrl) -> Destination {
    match url {
        ProxyUrl::Backend(url) => Destination::Backend(Arc::new(Backend {
            url,
            parameters: Parameters::default(),
        })),
        ProxyUrl::Balancer(url) => Destination::Balancer {
            balancer: Arc::new(Balancer::new(&url.name, Settings::default(), Vec::new())),
            path: url.path.into(),
        },
    }
}

/// The URL that a `[P]` rule begins with, and what stands behind it. Scheme, host and port have to be in the text of the
/// rule: no request decides where it goes (CVE-2024-39573).
fn backend(
    text: Text,
    substitution: &str,
    review: &Review<'_>,
) -> Result<(ProxyUrl, Text), String> {
    let mut pieces = text.pieces.into_iter();
    let first = pieces.next();
    let mut rest: Vec<Piece> = pieces.collect();
    let Some(Piece::Literal(mut start)) = first else {
        return Err(format!(
            "\"{substitution}\": a [P] rule needs scheme, host and port in its own text, such as ws://localhost:9000/$1; \
             nothing of a request may decide them"
        ));
    };
    // One that separates no query, since QSL looks for the last.
    if let Some(place) = start.iter().position(|byte| *byte == b'?') {
        rest.insert(0, Piece::Literal(start.split_off(place)));
    }
    let start = String::from_utf8_lossy(&start).into_owned();
    let url = match start.split_once('|') {
        Some((_, url)) if BackendUrl::begins_with_socket(&start) => url,
        _ => &start,
    };
    let behind_scheme = url.split_once("://").map(|(_, behind)| behind);
    if let Some(authority) = behind_scheme
        && !authority.contains('/')
        && let Some(next) = rest.first()
    {
        // What is glued to the host can only be meant as a path if no host goes on behind it.
        let goes_on = match rest.get(1) {
            Some(Piece::Literal(text)) => !text.starts_with(b"/"),
            Some(_) => !authority.contains(':'),
            None => false,
        };
        let is_path = match next {
            Piece::Variable(Variable::Plain(Plain::RequestUri)) => true,
            Piece::Group(_) | Piece::Found(_) => !goes_on,
            Piece::Variable(_) | Piece::Literal(_) => false,
        };
        if !is_path || authority.is_empty() || authority.ends_with([':', '.', '-', '@', '[']) {
            return Err(format!(
                "\"{substitution}\": nothing of a request may become a part of the scheme, the host or the port; write \
                 them out, and a \"/\" behind them, such as ws://localhost:9000/$1"
            ));
        }
    }
    let url = ProxyUrl::configured(&start, review.server_root)?;
    // The last segment may go on in what a request brings in.
    let whole = match url.path().rsplit_once('/') {
        Some((whole, _)) if !rest.is_empty() => whole,
        _ => url.path(),
    };
    if !has_no_dot_segments(whole) {
        return Err(format!(
            "\"{substitution}\": the path has a segment \".\" or \"..\"; write it without"
        ));
    }
    Ok((url, Text { pieces: rest }))
}

/// Appends a byte as it is, but for what no target can hold: bytes above 0x7f, and the sign of a fragment. Blanks and
/// control characters are let through, for the last look at a target to find them.
fn push_raw(byte: u8, out: &mut String) {
    match byte {
        KEPT_SLASH => out.push_str("%2F"),
        b'#' | 0x80.. => push_escape(byte, out),
        _ => out.push(char::from(byte)),
    }
}
