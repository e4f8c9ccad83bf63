//! THE TABLE: every directive and section that this program knows, with its syntax, default, contexts and meaning, and
//! the function that obeys it. The parser, `-L`, the defaults and the man page test all read it; nothing else knows what
//! directives there are.

use super::draft::Scope;
use super::sections::Kind;
use super::{
    Account, DEFAULT_SERVER_ROOT, Fate, apply, backend_tls, balancers, control, documents,
    exchange, health, limits, logs, proxy_pass, proxy_protocol, remote_ip, reverse, rewrite,
    set_env, syntax, tls::lines as tls, value,
};
use crate::http::head::MAX_HEAD;
use crate::route::access;
use crate::route::own_name::CanonicalName;
use crate::route::pattern::Case;
use crate::route::remote_ip::Trust;
use crate::route::set_env::Looks;
use crate::route::settings::Change;
use crate::route::url::Slashes;
use std::fmt;
use value::Unit::Seconds;

/// Where a directive may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Outside of any section.
    Server,
    /// Inside `<VirtualHost>`.
    VirtualHost,
    /// Inside `<Location>` or `<LocationMatch>`.
    Location,
    /// Inside `<Proxy>` or `<ProxyMatch>`.
    Proxy,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server config",
            Self::VirtualHost => "virtual host",
            Self::Location => "<Location>",
            Self::Proxy => "<Proxy>",
        })
    }
}

/// One directive or section.
#[derive(Debug)]
pub struct Entry {
    /// The name as it is printed; a section's with its angle brackets. Any case is read.
    pub name: &'static str,
    /// What stands behind the name. `[...]` is optional, `...` repeats.
    pub syntax: &'static str,
    /// What holds where the directive is not written, in its own syntax. None: nothing is set.
    pub default: Option<&'static str>,
    /// Where it may stand.
    pub contexts: &'static [Context],
    /// What it does, in a line.
    pub help: &'static str,
    pub(super) action: Action,
}

/// How many words a directive takes, and what obeys it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// `On` or `Off`.
    Flag(fn(&mut Scope<'_>, bool) -> Result<(), String>),
    /// One word.
    One(fn(&mut Scope<'_>, &str) -> Result<(), String>),
    /// At least one word, and no more than this.
    UpTo(usize, fn(&mut Scope<'_>, &[&str]) -> Result<(), String>),
    /// All that stands behind the name, split in a way of its own.
    Raw(fn(&mut Scope<'_>, &str) -> Result<(), String>),
    /// Obeyed while reading, by `config/syntax.rs`.
    Reader,
    /// A section that `config/walk.rs` walks into.
    Section(SectionKind),
    /// Any words; they change nothing, and a note says why.
    Noted(&'static str),
}

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// A host of its own.
    Host,
    /// A part of the paths, or some backends.
    Place(Kind),
    /// A part of the rules of access.
    Access(access::Kind),
    /// It is about files, and changes nothing; a note says so.
    Files,
}

impl Entry {
    /// Splits what stands behind the name into words, counts and obeys them.
    pub(super) fn apply(&self, scope: &mut Scope<'_>, arguments: &str) -> Result<(), String> {
        if let Action::Raw(apply) = self.action {
            return apply(scope, arguments);
        }
        let words = syntax::words(arguments)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let expected = |what: &str| {
            let count = words.len();
            Err(format!(
                "expected {what}, found {count}; syntax: {} {}",
                self.name, self.syntax
            ))
        };
        match (self.action, words.as_slice()) {
            (Action::Flag(apply), [word, ignored @ ..]) => {
                if !ignored.is_empty() {
                    let ignored = ignored.join(" ");
                    scope.warn(format!(
                        "\"{ignored}\" behind \"{word}\" is ignored, as in httpd"
                    ));
                }
                apply(scope, value::on_off(word)?)
            }
            (Action::Flag(_) | Action::One(_), []) => expected("one word"),
            (Action::One(apply), [word]) => apply(scope, word),
            (Action::One(_), _) => expected("one word"),
            (Action::UpTo(..), []) => expected("at least one word"),
            (Action::UpTo(most, _), words) if words.len() > most => {
                expected(&format!("at most {most} words"))
            }
            (Action::UpTo(_, apply), words) => apply(scope, words),
            (Action::Noted(why), _) => {
                scope.note(why);
                Ok(())
            }
            (Action::Raw(_) | Action::Reader | Action::Section(_), _) => Ok(()),
        }
    }
}

/// Finds an entry by its name, in any case. httpd: directive names are case-insensitive.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    TABLE
        .iter()
        .find(|entry| entry.name.eq_ignore_ascii_case(name))
}

const SERVER: &[Context] = &[Context::Server];
const HOST: &[Context] = &[Context::VirtualHost];
const BOTH: &[Context] = &[Context::Server, Context::VirtualHost];
const MAPPED: &[Context] = &[Context::Server, Context::VirtualHost, Context::Location];
/// Where something may be said of backends.
const BACKENDS: &[Context] = &[Context::Server, Context::VirtualHost, Context::Proxy];
const PLACES: &[Context] = &[Context::Location, Context::Proxy];
const ALL: &[Context] = &[
    Context::Server,
    Context::VirtualHost,
    Context::Location,
    Context::Proxy,
];

/// No bound on the number of words.
const MANY: usize = usize::MAX;

/// All directives, by topic.
pub const TABLE: &[Entry] = &[
    // ---- mapping -----------------------------------------------------------------------------------------------
    Entry {
        name: "ProxyPass",
        syntax: "[path] !|url [nocanon] [noquery] [interpolate] [key=value ...]",
        default: None,
        contexts: MAPPED,
        help: "leads what is below a path to a ws://, wss://, http:// or https:// backend; the first match counts; !: to none",
        action: Action::UpTo(MANY, proxy_pass::proxy_pass),
    },
    Entry {
        name: "ProxyPassMatch",
        syntax: "[pattern] !|url [nocanon] [noquery] [interpolate] [key=value ...]",
        default: None,
        contexts: MAPPED,
        help: "as ProxyPass, for paths in which a pattern is found; $1 to $9 in the URL are what it captured",
        action: Action::UpTo(MANY, proxy_pass::proxy_pass_match),
    },
    Entry {
        name: "ProxySet",
        syntax: "[url] key=value ...",
        default: None,
        contexts: ALL,
        help: "parameters of a backend, in its <Proxy> or with its URL",
        action: Action::UpTo(MANY, apply::proxy_set),
    },
    Entry {
        name: "BalancerMember",
        syntax: "[balancer://name] url [key=value ...]",
        default: None,
        contexts: BACKENDS,
        help: "a backend among which the balancer chooses",
        action: Action::UpTo(MANY, balancers::balancer_member),
    },
    Entry {
        name: "BalancerGrowth",
        syntax: "number",
        default: None,
        contexts: BOTH,
        help: "taken from httpd, and without effect: members change with the configuration",
        action: Action::One(balancers::growth),
    },
    Entry {
        name: "BalancerPersist",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether what is known of members outlives the program; only Off can be obeyed",
        action: Action::Flag(balancers::persist),
    },
    Entry {
        name: "BalancerInherit",
        syntax: "On|Off",
        default: Some("On"),
        contexts: BOTH,
        help: "whether virtual hosts have the balancers of the main server; only On can be obeyed",
        action: Action::Flag(balancers::inherit),
    },
    Entry {
        name: "ProxyPassInherit",
        syntax: "On|Off",
        default: Some("On"),
        contexts: BOTH,
        help: "whether virtual hosts have the mappings of the main server; only On can be obeyed",
        action: Action::Flag(balancers::inherit),
    },
    Entry {
        name: "ProxyHCTemplate",
        syntax: "name key=value ...",
        default: None,
        contexts: BOTH,
        help: "hcmethod= and other parameters of health checks, for members with hctemplate=name",
        action: Action::UpTo(MANY, health::template),
    },
    Entry {
        name: "ProxyHCTPsize",
        syntax: "number",
        default: Some("16"),
        contexts: SERVER,
        help: "how many members of balancers are checked at a time",
        action: Action::One(|scope, text| {
            scope.program.health_threads = value::integer(text, 0..=10_000)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyPassInterpolateEnv",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: MAPPED,
        help: "whether ${name} in the URL of a ProxyPass with interpolate is a variable of the request",
        action: Action::Flag(|scope, on| {
            match &mut scope.section {
                Some(section) => section.interpolates = Some(on),
                None => scope.host.interpolates = on,
            }
            Ok(())
        }),
    },
    Entry {
        name: "ProxyRequests",
        syntax: "Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "Off is what this program does: it is no forward proxy; On is refused",
        action: Action::Flag(apply::proxy_requests),
    },
    Entry {
        name: "AllowEncodedSlashes",
        syntax: "On|Off|NoDecode",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether %2F in a path is refused with 404, a slash, or kept as it is",
        action: Action::One(|scope, text| {
            scope.host.slashes = match text.to_ascii_lowercase().as_str() {
                "off" => Slashes::Refused,
                "on" => Slashes::Decoded,
                "nodecode" => Slashes::Kept,
                _ => return Err(format!("expected On, Off or NoDecode, found \"{text}\"")),
            };
            Ok(())
        }),
    },
    Entry {
        name: "<Location>",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "settings, and perhaps a ProxyPass, for a path and all below it; * ? and [...] are wildcards",
        action: Action::Section(SectionKind::Place(Kind::Location)),
    },
    Entry {
        name: "<LocationMatch>",
        syntax: "pattern",
        default: None,
        contexts: BOTH,
        help: "as <Location>, for paths in which a pattern is found",
        action: Action::Section(SectionKind::Place(Kind::LocationMatch)),
    },
    Entry {
        name: "<Proxy>",
        syntax: "url [key=value ...]",
        default: None,
        contexts: BOTH,
        help: "settings and parameters of the backends whose URL begins so; * stands for all",
        action: Action::Section(SectionKind::Place(Kind::Proxy)),
    },
    Entry {
        name: "<ProxyMatch>",
        syntax: "pattern",
        default: None,
        contexts: BOTH,
        help: "as <Proxy>, for backends in whose URL a pattern is found",
        action: Action::Section(SectionKind::Place(Kind::ProxyMatch)),
    },
    Entry {
        name: "ProxyPreserveHost",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: ALL,
        help: "whether the backend sees the client's Host field instead of its own name",
        action: Action::Flag(|scope, on| {
            scope.change(Change::PreserveHost(on));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyAddHeaders",
        syntax: "On|Off",
        default: Some("On"),
        contexts: ALL,
        help: "whether the backend gets X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Server",
        action: Action::Flag(|scope, on| {
            scope.change(Change::AddHeaders(on));
            Ok(())
        }),
    },
    Entry {
        name: "RequestHeader",
        syntax: "action field [value [replacement]] [env=[!]name] [early]",
        default: None,
        contexts: ALL,
        help: "changes a header field of the request: set, setifempty, append, merge, add, unset, edit, edit*",
        action: Action::UpTo(MANY, apply::request_header),
    },
    Entry {
        name: "Header",
        syntax: "[always|onsuccess] action field [value [replacement]] [env=[!]name]",
        default: None,
        contexts: ALL,
        help: "changes a header field of the answer, the 101 included; always: also of our own error answers",
        action: Action::UpTo(MANY, apply::header),
    },
    Entry {
        name: "ProxyPassReverse",
        syntax: "[path] url [interpolate]",
        default: None,
        contexts: MAPPED,
        help: "addresses in answers (Location and its kin) that begin with the URL begin with the path, for the client",
        action: Action::UpTo(3, reverse::proxy_pass_reverse),
    },
    Entry {
        name: "ProxyPassReverseCookieDomain",
        syntax: "internal public [interpolate]",
        default: None,
        contexts: MAPPED,
        help: "cookies of the backend whose domain begins so have this one, for the client",
        action: Action::UpTo(3, reverse::cookie_domain),
    },
    Entry {
        name: "ProxyPassReverseCookiePath",
        syntax: "internal public [interpolate]",
        default: None,
        contexts: MAPPED,
        help: "cookies of the backend whose path begins so have this one, for the client",
        action: Action::UpTo(3, reverse::cookie_path),
    },
    Entry {
        name: "ProxyVia",
        syntax: "On|Off|Full|Block",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether Via tells that a message came through here; Block takes it out of requests",
        action: Action::One(apply::proxy_via),
    },
    Entry {
        name: "ProxyTimeout",
        syntax: "duration",
        default: None,
        contexts: BOTH,
        help: "how long each step towards a backend may take; unset: the value of Timeout",
        action: Action::One(|scope, text| {
            scope.host.proxy_timeout = Some(apply::step_limit(scope, text)?);
            Ok(())
        }),
    },
    Entry {
        name: "Proxy100Continue",
        syntax: "On|Off",
        default: Some("On"),
        contexts: ALL,
        help: "whether an http:// backend is asked what Expect: 100-continue asks; Off: the client is told to go on at once",
        action: Action::Flag(|scope, on| {
            scope.change(Change::PassesExpect(on));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyMaxForwards",
        syntax: "number",
        default: Some("-1"),
        contexts: BOTH,
        help: "the Max-Forwards of a request that has none, to an http:// backend; negative: it gets none",
        action: Action::One(|scope, text| {
            scope.host.max_forwards = exchange::max_forwards(text)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyBadHeader",
        syntax: "IsError",
        default: Some("IsError"),
        contexts: BOTH,
        help: "IsError is what this program does: an answer with a bad header field gives 502; others are refused",
        action: Action::One(exchange::proxy_bad_header),
    },
    Entry {
        name: "ProxyIOBufferSize",
        syntax: "bytes",
        default: Some("16384"),
        contexts: BOTH,
        help: "how much one exchange with an http:// backend reads at a time: 512 to 1048576; 0: the default",
        action: Action::One(|scope, text| {
            scope.host.io_buffer = exchange::io_buffer(text)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyReceiveBufferSize",
        syntax: "bytes",
        default: Some("0"),
        contexts: BOTH,
        help: "the kernel's receive buffer for connections to backends, 512 or more; 0: the kernel's choice",
        action: Action::One(|scope, text| {
            let size = value::receive_buffer(text)?;
            scope.host.receive_buffer = (size > 0).then_some(size);
            Ok(())
        }),
    },
    Entry {
        name: "ProxySourceAddress",
        syntax: "address",
        default: None,
        contexts: BOTH,
        help: "our own IP address of connections to backends; unset: the kernel chooses one",
        action: Action::One(|scope, text| {
            scope.host.source_address = Some(exchange::source_address(text)?);
            Ok(())
        }),
    },
    // ---- rewriting ---------------------------------------------------------------------------------------------
    Entry {
        name: "RewriteEngine",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether the rules of this host are looked at",
        action: Action::Flag(rewrite::rewrite_engine),
    },
    Entry {
        name: "RewriteCond",
        syntax: "test pattern [flags]",
        default: None,
        contexts: BOTH,
        help: "what must hold for the next RewriteRule, beside its pattern",
        action: Action::Raw(rewrite::rewrite_cond),
    },
    Entry {
        name: "RewriteRule",
        syntax: "pattern substitution|- [flags]",
        default: None,
        contexts: BOTH,
        help: "changes path and query, leads to a backend (P), or answers (R, F, G), before ProxyPass is looked at",
        action: Action::Raw(rewrite::rewrite_rule),
    },
    Entry {
        name: "RewriteOptions",
        syntax: "Inherit|InheritBefore|InheritDown|InheritDownBefore|IgnoreInherit ...",
        default: None,
        contexts: BOTH,
        help: "which rules of the main server a virtual host has",
        action: Action::UpTo(MANY, rewrite::rewrite_options),
    },
    // ---- variables of requests ---------------------------------------------------------------------------------
    Entry {
        name: "SetEnvIf",
        syntax: "attribute pattern [!]name[=value] ...",
        default: None,
        contexts: ALL,
        help: "sets variables if a pattern is found in a header field, Request_URI, Request_Method, Request_Protocol, \
               Remote_Addr, Server_Addr or another variable",
        action: Action::UpTo(MANY, |scope, words| {
            set_env::set_env_if(scope, words, Looks::AtAttribute, Case::Sensitive)
        }),
    },
    Entry {
        name: "SetEnvIfNoCase",
        syntax: "attribute pattern [!]name[=value] ...",
        default: None,
        contexts: ALL,
        help: "as SetEnvIf, and case does not count",
        action: Action::UpTo(MANY, |scope, words| {
            set_env::set_env_if(scope, words, Looks::AtAttribute, Case::Insensitive)
        }),
    },
    Entry {
        name: "BrowserMatch",
        syntax: "pattern [!]name[=value] ...",
        default: None,
        contexts: ALL,
        help: "as SetEnvIf User-Agent",
        action: Action::UpTo(MANY, |scope, words| {
            set_env::set_env_if(scope, words, Looks::AtBrowser, Case::Sensitive)
        }),
    },
    Entry {
        name: "BrowserMatchNoCase",
        syntax: "pattern [!]name[=value] ...",
        default: None,
        contexts: ALL,
        help: "as SetEnvIfNoCase User-Agent",
        action: Action::UpTo(MANY, |scope, words| {
            set_env::set_env_if(scope, words, Looks::AtBrowser, Case::Insensitive)
        }),
    },
    Entry {
        name: "SetEnv",
        syntax: "name [value]",
        default: None,
        contexts: ALL,
        help: "a variable of every request, where nothing has set it before; later than rules, mappings and access",
        action: Action::UpTo(2, set_env::set_env),
    },
    Entry {
        name: "PassEnv",
        syntax: "name ...",
        default: None,
        contexts: ALL,
        help: "as SetEnv, with the value that the program's own environment has at start",
        action: Action::UpTo(MANY, set_env::pass_env),
    },
    Entry {
        name: "UnsetEnv",
        syntax: "name ...",
        default: None,
        contexts: ALL,
        help: "takes back SetEnv and PassEnv of the main server or of an outer section",
        action: Action::UpTo(MANY, set_env::unset_env),
    },
    Entry {
        name: "SetHandler",
        syntax: "server-status|none",
        default: None,
        contexts: &[Context::Location],
        help: "this program answers there itself: with what it does at the moment; local clients only, unless Require says more",
        action: Action::One(apply::set_handler),
    },
    // ---- who may connect ---------------------------------------------------------------------------------------
    Entry {
        name: "Require",
        syntax: "[not] all granted|all denied|ip network ...|local|method name ...|env name ...",
        default: None,
        contexts: PLACES,
        help: "who may connect; of several lines one has to permit",
        action: Action::UpTo(MANY, apply::require),
    },
    Entry {
        name: "<RequireAll>",
        syntax: "",
        default: None,
        contexts: PLACES,
        help: "none of the lines in it denies, and one permits",
        action: Action::Section(SectionKind::Access(access::Kind::All)),
    },
    Entry {
        name: "<RequireAny>",
        syntax: "",
        default: None,
        contexts: PLACES,
        help: "one of the lines in it permits",
        action: Action::Section(SectionKind::Access(access::Kind::Any)),
    },
    Entry {
        name: "<RequireNone>",
        syntax: "",
        default: None,
        contexts: PLACES,
        help: "none of the lines in it permits",
        action: Action::Section(SectionKind::Access(access::Kind::None)),
    },
    Entry {
        name: "Order",
        syntax: "deny,allow|allow,deny|mutual-failure",
        default: None,
        contexts: PLACES,
        help: "which of Allow and Deny comes last, and so decides where both fit",
        action: Action::UpTo(MANY, |scope, words| scope.access()?.order(words)),
    },
    Entry {
        name: "Allow",
        syntax: "from all|network|env=[!]name ...",
        default: None,
        contexts: PLACES,
        help: "who may connect, in the manner of httpd 2.2",
        action: Action::UpTo(MANY, |scope, words| scope.access()?.allow(words)),
    },
    Entry {
        name: "Deny",
        syntax: "from all|network|env=[!]name ...",
        default: None,
        contexts: PLACES,
        help: "who may not connect, in the manner of httpd 2.2",
        action: Action::UpTo(MANY, |scope, words| scope.access()?.deny(words)),
    },
    Entry {
        name: "Satisfy",
        syntax: "all",
        default: None,
        contexts: PLACES,
        help: "all is what this program does: Allow and Deny have to permit, and Require too",
        action: Action::UpTo(MANY, |scope, words| scope.access()?.satisfy(words)),
    },
    // ---- other proxies in front --------------------------------------------------------------------------------
    Entry {
        name: "RemoteIPHeader",
        syntax: "field",
        default: None,
        contexts: BOTH,
        help: "the field in which trusted proxies name the client, such as X-Forwarded-For",
        action: Action::One(remote_ip::header),
    },
    Entry {
        name: "RemoteIPProxiesHeader",
        syntax: "field",
        default: None,
        contexts: BOTH,
        help: "the field in which the backend learns of the proxies that vouched for the client",
        action: Action::One(remote_ip::proxies_header),
    },
    Entry {
        name: "RemoteIPInternalProxy",
        syntax: "network ...",
        default: None,
        contexts: BOTH,
        help: "proxies that are trusted in all that they say",
        action: Action::UpTo(MANY, |scope, words| {
            remote_ip::proxies(scope, words, Trust::Internal)
        }),
    },
    Entry {
        name: "RemoteIPInternalProxyList",
        syntax: "file",
        default: None,
        contexts: BOTH,
        help: "a file of such proxies",
        action: Action::One(|scope, path| remote_ip::list(scope, path, Trust::Internal)),
    },
    Entry {
        name: "RemoteIPTrustedProxy",
        syntax: "network ...",
        default: None,
        contexts: BOTH,
        help: "proxies that are trusted, except for addresses of private networks",
        action: Action::UpTo(MANY, |scope, words| {
            remote_ip::proxies(scope, words, Trust::External)
        }),
    },
    Entry {
        name: "RemoteIPTrustedProxyList",
        syntax: "file",
        default: None,
        contexts: BOTH,
        help: "a file of such proxies",
        action: Action::One(|scope, path| remote_ip::list(scope, path, Trust::External)),
    },
    Entry {
        name: "UseCanonicalName",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether redirections and SERVER_NAME say ServerName, or the name in Host",
        action: Action::One(|scope, text| {
            scope.host.canonical_name = CanonicalName::parse(text)?;
            Ok(())
        }),
    },
    // ---- tunnels -----------------------------------------------------------------------------------------------
    Entry {
        name: "ProxyWebsocketAsync",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: ALL,
        help: "whether a tunnel leaves its worker for a reactor, a thread that runs thousands of them",
        action: Action::Flag(|scope, on| {
            scope.change(Change::Asynchronous(on));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketAsyncDelay",
        syntax: "duration",
        default: Some("0"),
        contexts: ALL,
        help: "how long nothing may have moved in a tunnel before it leaves its worker; 0: at once",
        action: Action::One(|scope, text| {
            scope.change(Change::AsyncDelay(value::duration(text, Seconds)?));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketAsyncThreads",
        syntax: "number",
        default: Some("1"),
        contexts: SERVER,
        help: "reactors, 1 to 64; a tunnel stays with the one that took it; not in httpd",
        action: Action::One(|scope, text| {
            scope.program.reactor_threads = value::integer(text, 1..=64)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketAsyncMaxTunnels",
        syntax: "number",
        default: Some("100000"),
        contexts: SERVER,
        help: "the most tunnels of all reactors; more stay in their workers; not in httpd",
        action: Action::One(|scope, text| {
            scope.program.reactor_limit = value::integer(text, 1..=10_000_000)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketOnUpgrade",
        syntax: "Keep|End [duration]",
        default: Some("Keep"),
        contexts: SERVER,
        help: "what becomes of the tunnels of the old process when another one has taken over; not in httpd",
        action: Action::UpTo(2, |scope, words| {
            scope.program.on_upgrade = Fate::parse(words)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketOnReload",
        syntax: "Keep|End [duration]",
        default: Some("Keep"),
        contexts: SERVER,
        help: "what becomes of tunnels whose mapping or backend a reload removes; not in httpd",
        action: Action::UpTo(2, |scope, words| {
            scope.program.on_reload = Fate::parse(words)?;
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketIdleTimeout",
        syntax: "duration",
        default: Some("0"),
        contexts: ALL,
        help: "how long a tunnel may be silent in both directions before it is closed; 0: for ever",
        action: Action::One(|scope, text| {
            let limit = value::duration(text, Seconds)?;
            scope.change(Change::IdleTimeout((!limit.is_zero()).then_some(limit)));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketHalfCloseTimeout",
        syntax: "duration",
        default: Some("30"),
        contexts: ALL,
        help: "how long a tunnel whose one direction has ended may be silent in the other; not in httpd",
        action: Action::One(|scope, text| {
            scope.change(Change::HalfCloseTimeout(value::positive_duration(
                text, Seconds,
            )?));
            Ok(())
        }),
    },
    Entry {
        name: "ProxyWebsocketMaxTunnels",
        syntax: "number",
        default: Some("20000"),
        contexts: SERVER,
        help: "the most tunnels at a time, handshakes included; more get 503; 0: any number; not in httpd",
        action: Action::One(limits::max_tunnels),
    },
    Entry {
        name: "ProxyWebsocketMaxTunnelsPerAddress",
        syntax: "number",
        default: Some("0"),
        contexts: BOTH,
        help: "the most tunnels of one client's address, or of one IPv6 /64; more get 429; 0: any number; not in httpd",
        action: Action::One(limits::per_address),
    },
    Entry {
        name: "ProxyWebsocketMaxTunnelsPerHost",
        syntax: "number",
        default: Some("0"),
        contexts: BOTH,
        help: "the most tunnels of a host; more get 503; 0: any number; not in httpd",
        action: Action::One(limits::per_host),
    },
    Entry {
        name: "ProxyWebsocketMaxTunnelsPerBackend",
        syntax: "number",
        default: Some("0"),
        contexts: BOTH,
        help: "the most tunnels to one backend or member; more go to another member or get 503; 0: any number; not in httpd",
        action: Action::One(limits::per_backend),
    },
    Entry {
        name: "ProxyWebsocketHandshakeRate",
        syntax: "Off|number[/s|/min|/h] [burst=number]",
        default: Some("Off"),
        contexts: SERVER,
        help: "how fast one client's address, or one IPv6 /64, may ask for tunnels; faster ones get 429; not in httpd",
        action: Action::UpTo(2, limits::handshake_rate),
    },
    Entry {
        name: "ProxyWebsocketMaxLifetime",
        syntax: "duration [spread=duration]",
        default: Some("0"),
        contexts: ALL,
        help: "how old a tunnel may get, less a part of the spread, drawn for each; 0: any age; not in httpd",
        action: Action::UpTo(2, limits::max_lifetime),
    },
    Entry {
        name: "ProxyWebsocketFallbackToProxyHttp",
        syntax: "Off",
        default: Some("Off"),
        contexts: ALL,
        help: "Off is what this program does: a request without Upgrade on a ws:// path gets 426; On is refused",
        action: Action::Flag(apply::fallback_to_proxy_http),
    },
    // ---- TLS towards clients -----------------------------------------------------------------------------------
    Entry {
        name: "SSLEngine",
        syntax: "On|Off",
        default: None,
        contexts: BOTH,
        help: "whether a host speaks TLS with its clients; unset: if it has a certificate and a listener for https",
        action: Action::One(tls::engine),
    },
    Entry {
        name: "SSLCertificateFile",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "PEM file of a certificate and those that lead to its authority; may be repeated, for another kind of key",
        action: Action::One(tls::certificate_file),
    },
    Entry {
        name: "SSLCertificateKeyFile",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "PEM file of the key of a certificate, without a password; unset: it is in the certificate's file",
        action: Action::One(tls::key_file),
    },
    Entry {
        name: "SSLCertificateChainFile",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "PEM file of what leads from the certificate to its authority, where its own file has none of it",
        action: Action::One(tls::chain_file),
    },
    Entry {
        name: "SSLProtocol",
        syntax: "[+|-]version ...",
        default: Some("-all +TLSv1.2 +TLSv1.3"),
        contexts: BOTH,
        help: "the versions that are spoken, without a gap: TLSv1, TLSv1.1, TLSv1.2, TLSv1.3, all",
        action: Action::UpTo(MANY, tls::protocol),
    },
    Entry {
        name: "SSLCipherSuite",
        syntax: "[SSL|TLSv1.3] list",
        default: None,
        contexts: BOTH,
        help: "the ciphers up to TLS 1.2, or the suites of TLS 1.3, in OpenSSL's words; unset: as the library has it",
        action: Action::UpTo(2, tls::cipher_suite),
    },
    Entry {
        name: "SSLHonorCipherOrder",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether the order of our list counts, and not that of the client",
        action: Action::Flag(|scope, on| {
            scope.host.tls.prefers_own_order = on;
            Ok(())
        }),
    },
    Entry {
        name: "SSLOpenSSLConfCmd",
        syntax: "Groups|Curves list",
        default: None,
        contexts: BOTH,
        help: "the groups for the exchange of keys, such as X25519:P-256; other commands are refused",
        action: Action::UpTo(2, tls::conf_cmd),
    },
    Entry {
        name: "SSLVerifyClient",
        syntax: "none|optional|require",
        default: Some("none"),
        contexts: BOTH,
        help: "whether clients are asked for a certificate, and whether one without is let in",
        action: Action::One(tls::verify_client),
    },
    Entry {
        name: "SSLVerifyDepth",
        syntax: "number",
        default: Some("1"),
        contexts: BOTH,
        help: "the most authorities above the certificate of a client, 1 to 100: 1 if the one that is trusted has signed it",
        action: Action::One(tls::verify_depth),
    },
    Entry {
        name: "SSLCACertificateFile",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "PEM file of the authorities that the certificates of clients are verified by",
        action: Action::One(tls::ca_certificate_file),
    },
    Entry {
        name: "SSLSessionTickets",
        syntax: "On|Off",
        default: Some("On"),
        contexts: BOTH,
        help: "whether a client that comes again need not make the whole handshake",
        action: Action::Flag(|scope, on| {
            scope.host.tls.tickets = on;
            Ok(())
        }),
    },
    Entry {
        name: "SSLStrictSNIVHostCheck",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether clients that name no host in TLS are refused, for all hosts of an address if the first says so",
        action: Action::Flag(|scope, on| {
            scope.host.tls.is_strict = on;
            Ok(())
        }),
    },
    Entry {
        name: "SSLVHostSNIPolicy",
        syntax: "secure",
        default: Some("secure"),
        contexts: SERVER,
        help: "secure is what is done here: a host with other terms of TLS than the connection has gives 421",
        action: Action::One(tls::sni_policy),
    },
    Entry {
        name: "SSLCompression",
        syntax: "Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "Off is what is done here: compressed secrets can be guessed; On is refused",
        action: Action::Flag(|_, on| {
            tls::only_off(
                on,
                "what is compressed together with a secret tells of it (CRIME); remove the line",
            )
        }),
    },
    Entry {
        name: "SSLInsecureRenegotiation",
        syntax: "Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "Off is what is done here: there is no renegotiation at all; On is refused",
        action: Action::Flag(|_, on| {
            tls::only_off(on, "there is no renegotiation here at all; remove the line")
        }),
    },
    Entry {
        name: "SSLUseStapling",
        syntax: "Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "Off is what is done here: no answers of OCSP are sent along; On is refused",
        action: Action::Flag(|_, on| {
            tls::only_off(
                on,
                "no answers of OCSP are sent with the certificate, and a certificate that demands them cannot be used; remove the line",
            )
        }),
    },
    Entry {
        name: "SSLFIPS",
        syntax: "Off",
        default: Some("Off"),
        contexts: SERVER,
        help: "Off is what is done here; On is refused: OpenSSL's own configuration decides",
        action: Action::Flag(|_, on| {
            tls::only_off(
                on,
                "OpenSSL's own configuration decides whether it is held to FIPS 140; remove the line",
            )
        }),
    },
    Entry {
        name: "SSLCryptoDevice",
        syntax: "builtin",
        default: Some("builtin"),
        contexts: SERVER,
        help: "builtin is what is done here; others are refused",
        action: Action::One(tls::crypto_device),
    },
    Entry {
        name: "Protocols",
        syntax: "http/1.1 ...",
        default: Some("http/1.1"),
        contexts: BOTH,
        help: "HTTP/1.1 is what is spoken; others beside it have no effect",
        action: Action::UpTo(MANY, tls::protocols),
    },
    Entry {
        name: "SSLOptions",
        syntax: "[+|-]word ...",
        default: None,
        contexts: ALL,
        help: "accepted, and has no effect: it is about scripts and folders; FakeBasicAuth and LegacyDNStringFormat are refused",
        action: Action::UpTo(MANY, tls::options),
    },
    Entry {
        name: "SSLSessionCache",
        syntax: "type",
        default: None,
        contexts: SERVER,
        help: "accepted, and has no effect: sessions are in tickets, and take no memory here",
        action: Action::Noted("it has no effect: sessions are in tickets, and take no memory here"),
    },
    Entry {
        name: "SSLSessionCacheTimeout",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: sessions are in tickets, and take no memory here",
        action: Action::Noted("it has no effect: sessions are in tickets, and take no memory here"),
    },
    Entry {
        name: "SSLRandomSeed",
        syntax: "context source [bytes]",
        default: None,
        contexts: SERVER,
        help: "accepted, and has no effect: OpenSSL gets its random numbers from the kernel",
        action: Action::Noted("it has no effect: OpenSSL gets its random numbers from the kernel"),
    },
    Entry {
        name: "SSLPassPhraseDialog",
        syntax: "type",
        default: None,
        contexts: SERVER,
        help: "accepted, and has no effect: a key with a password is refused, so that nobody is asked for one",
        action: Action::Noted(
            "it has no effect: a key with a password is refused, so that nobody is asked for one",
        ),
    },
    Entry {
        name: "SSLStaplingCache",
        syntax: "type",
        default: None,
        contexts: SERVER,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingErrorCacheTimeout",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingFakeTryLater",
        syntax: "On|Off",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingForceURL",
        syntax: "url",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingResponderTimeout",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingResponseMaxAge",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingResponseTimeSkew",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingReturnResponderErrors",
        syntax: "On|Off",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    Entry {
        name: "SSLStaplingStandardCacheTimeout",
        syntax: "seconds",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no answers of OCSP are sent along",
        action: Action::Noted("it has no effect: no answers of OCSP are sent along"),
    },
    // ---- TLS towards backends ----------------------------------------------------------------------------------
    Entry {
        name: "SSLProxyEngine",
        syntax: "On|Off",
        default: None,
        contexts: BACKENDS,
        help: "wss:// turns TLS on by itself; Off beside a wss:// entry is an error",
        action: Action::Flag(backend_tls::engine),
    },
    Entry {
        name: "SSLProxyVerify",
        syntax: "require|none",
        default: Some("require"),
        contexts: BACKENDS,
        help: "whether somebody who is trusted has to vouch for a backend's certificate; in httpd the default is none",
        action: Action::One(backend_tls::verify),
    },
    Entry {
        name: "SSLProxyVerifyDepth",
        syntax: "number",
        default: None,
        contexts: BACKENDS,
        help: "the most certificates above that of a backend, its authority included; unset: any number; in httpd 1",
        action: Action::One(backend_tls::depth),
    },
    Entry {
        name: "SSLProxyCACertificateFile",
        syntax: "path",
        default: None,
        contexts: BACKENDS,
        help: "PEM file of the only authorities that backends are verified by; unset: those of the system",
        action: Action::One(backend_tls::authorities),
    },
    Entry {
        name: "SSLProxyCACertificatePath",
        syntax: "path",
        default: None,
        contexts: BACKENDS,
        help: "folder of such, by the names that openssl rehash gives them",
        action: Action::One(backend_tls::authorities_folder),
    },
    Entry {
        name: "SSLProxyCheckPeerName",
        syntax: "On|Off",
        default: None,
        contexts: BACKENDS,
        help: "whether a backend's certificate has to name it, whoever vouches for that; unset: as SSLProxyCheckPeerCN says",
        action: Action::Flag(backend_tls::check_name),
    },
    Entry {
        name: "SSLProxyCheckPeerCN",
        syntax: "On|Off",
        default: None,
        contexts: BACKENDS,
        help: "with SSLProxyCheckPeerName Off: whether at least the common name has to be the backend's; unset: On without it",
        action: Action::Flag(backend_tls::check_common_name),
    },
    Entry {
        name: "SSLProxyCheckPeerExpire",
        syntax: "On|Off",
        default: Some("On"),
        contexts: BACKENDS,
        help: "whether the dates of a backend's certificate count",
        action: Action::Flag(backend_tls::check_dates),
    },
    Entry {
        name: "SSLProxyProtocol",
        syntax: "[+|-]version ...",
        default: Some("-all +TLSv1.2 +TLSv1.3"),
        contexts: BACKENDS,
        help: "the versions that are spoken with backends, without a gap: TLSv1, TLSv1.1, TLSv1.2, TLSv1.3, all",
        action: Action::UpTo(MANY, backend_tls::protocols),
    },
    Entry {
        name: "SSLProxyCipherSuite",
        syntax: "[SSL|TLSv1.3] list",
        default: None,
        contexts: BACKENDS,
        help: "the ciphers up to TLS 1.2, or the suites of TLS 1.3, in OpenSSL's words; unset: as the library has it",
        action: Action::UpTo(2, backend_tls::ciphers),
    },
    Entry {
        name: "SSLProxyMachineCertificateFile",
        syntax: "path",
        default: None,
        contexts: BACKENDS,
        help: "PEM file of the certificate that is shown to backends that ask for one, and its key",
        action: Action::One(backend_tls::identity),
    },
    Entry {
        name: "SSLProxyMachineCertificateChainFile",
        syntax: "path",
        default: None,
        contexts: BACKENDS,
        help: "PEM file of what leads from that certificate to its authority",
        action: Action::One(backend_tls::identity_chain),
    },
    // ---- requests ----------------------------------------------------------------------------------------------
    Entry {
        name: "Timeout",
        syntax: "duration",
        default: Some("60"),
        contexts: BOTH,
        help: "how long a step may take where no directive for it says more",
        action: Action::One(|scope, text| {
            scope.host.timeout = apply::step_limit(scope, text)?;
            Ok(())
        }),
    },
    Entry {
        name: "RequestReadTimeout",
        syntax: "[handshake=...] [header=duration[-duration][,MinRate=bytes]] [body=...]",
        default: Some("handshake=20 header=20-40,MinRate=500 body=20,MinRate=500"),
        contexts: BOTH,
        help: "how long the handshake of TLS, a request's head and its body may take: at first, at most, and the bytes \
               that earn a second; 0: for ever",
        action: Action::UpTo(MANY, exchange::request_read_timeout),
    },
    Entry {
        name: "KeepAlive",
        syntax: "On|Off",
        default: Some("On"),
        contexts: BOTH,
        help: "whether a client's connection stays open for its next request",
        action: Action::Flag(|scope, on| {
            scope.host.keep_alive.is_on = on;
            Ok(())
        }),
    },
    Entry {
        name: "KeepAliveTimeout",
        syntax: "duration",
        default: Some("5"),
        contexts: BOTH,
        help: "how long the next request is waited for; 0: as KeepAlive Off",
        action: Action::One(exchange::keep_alive_timeout),
    },
    Entry {
        name: "MaxKeepAliveRequests",
        syntax: "number",
        default: Some("100"),
        contexts: BOTH,
        help: "the most requests of one connection; 0: any number",
        action: Action::One(|scope, text| {
            let most = u64::from(u32::MAX);
            scope.host.keep_alive.max_requests = value::integer(text, 0..=most)?;
            Ok(())
        }),
    },
    Entry {
        name: "TraceEnable",
        syntax: "on|off|extended",
        default: Some("on"),
        contexts: BOTH,
        help: "whether the method TRACE reaches http:// backends: on: without a body; extended: with one as well",
        action: Action::One(exchange::trace_enable),
    },
    Entry {
        name: "LimitRequestLine",
        syntax: "bytes",
        default: Some("8190"),
        contexts: BOTH,
        help: "the longest request line; longer: 414",
        action: Action::One(|scope, text| {
            scope.host.limits.line = value::integer(text, 1..=MAX_HEAD)?;
            Ok(())
        }),
    },
    Entry {
        name: "LimitRequestFieldSize",
        syntax: "bytes",
        default: Some("8190"),
        contexts: BOTH,
        help: "the longest header field of a request; longer: 431",
        action: Action::One(|scope, text| {
            scope.host.limits.field = value::integer(text, 1..=MAX_HEAD)?;
            Ok(())
        }),
    },
    Entry {
        name: "LimitRequestFields",
        syntax: "number",
        default: Some("100"),
        contexts: BOTH,
        help: "the most header fields of a request; more: 431; 0: as many as a head can hold",
        action: Action::One(|scope, text| {
            scope.host.limits.fields = value::integer(text, 0..=32767)?;
            Ok(())
        }),
    },
    Entry {
        name: "LimitRequestBody",
        syntax: "bytes",
        default: Some("0"),
        contexts: ALL,
        help: "the longest body of a request; longer: 413; 0: any length, the default of httpd up to 2.4.53",
        action: Action::One(|scope, text| {
            let limit = value::integer(text, 0..=i64::MAX.unsigned_abs())?;
            scope.change(Change::BodyLimit((limit > 0).then_some(limit)));
            Ok(())
        }),
    },
    // ---- error answers -----------------------------------------------------------------------------------------
    Entry {
        name: "ErrorDocument",
        syntax: "status text|path|url|default",
        default: None,
        contexts: ALL,
        help: "what a client reads of an error: a text in HTML, a file below DocumentRoot, or a page elsewhere",
        action: Action::UpTo(MANY, documents::error_document),
    },
    Entry {
        name: "DocumentRoot",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "the folder of the files that ErrorDocument names; no other files are served",
        action: Action::One(documents::document_root),
    },
    Entry {
        name: "ProxyErrorOverride",
        syntax: "On|Off [status ...]",
        default: Some("Off"),
        contexts: ALL,
        help: "whether the errors that backends answer are replaced by ours of the same status; all, or some",
        action: Action::UpTo(MANY, documents::error_override),
    },
    // ---- logs --------------------------------------------------------------------------------------------------
    Entry {
        name: "ErrorLog",
        syntax: "path|syslog[:facility[:socket]]",
        default: Some("/dev/stderr"),
        contexts: BOTH,
        help: "where errors and warnings go: a file, the standard error as /dev/stderr, or syslog; in a virtual host for lines \
               about its requests",
        action: Action::One(logs::error_log),
    },
    Entry {
        name: "LogLevel",
        syntax: "[module:]level ...",
        default: Some("warn"),
        contexts: BOTH,
        help: "the least level that is written to the error log, of all or of one module: emerg, alert, crit, error, warn, \
               notice, info, debug, trace1 to trace8",
        action: Action::UpTo(MANY, logs::log_level),
    },
    Entry {
        name: "LogFormat",
        syntax: "format [nickname] [escape=default|json]",
        default: Some(r#""%h %l %u %t \"%r\" %>s %b""#),
        contexts: BOTH,
        help: "names a format for CustomLog; without a nickname it is the format of TransferLog; with escape=json its lines are \
               objects of JSON",
        action: Action::UpTo(3, logs::log_format),
    },
    Entry {
        name: "CustomLog",
        syntax: "path|syslog:facility format|nickname [env=[!]name] [event=end|open|both]",
        default: None,
        contexts: BOTH,
        help: "an access log: one line for each request, or for those with a variable, at the end of the tunnel, when it opens, \
               or both; one in a virtual host replaces the main server's",
        action: Action::UpTo(4, logs::custom_log),
    },
    Entry {
        name: "TransferLog",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "an access log in the format of the last LogFormat without a nickname",
        action: Action::One(logs::transfer_log),
    },
    // ---- hosts and listeners -----------------------------------------------------------------------------------
    Entry {
        name: "Listen",
        syntax: "[address:]port [http|https|status] | unix:path",
        default: None,
        contexts: SERVER,
        help: "an address to listen on, IPv6 in brackets; may be repeated; port 0: the kernel chooses one; https: hosts \
               with a certificate speak TLS there; status: only the server's own state is told there; unix: the control \
               socket",
        action: Action::UpTo(2, apply::listen),
    },
    Entry {
        name: "ControlSocketMode",
        syntax: "octal",
        default: Some("0600"),
        contexts: SERVER,
        help: "the permissions of control sockets: who may ask there; only root and the server's own user may change \
               anything",
        action: Action::One(control::mode),
    },
    Entry {
        name: "<VirtualHost>",
        syntax: "address[:port] ...",
        default: None,
        contexts: SERVER,
        help: "settings of their own for requests to an address, chosen by ServerName and ServerAlias",
        action: Action::Section(SectionKind::Host),
    },
    Entry {
        name: "ServerName",
        syntax: "[scheme://]host[:port]",
        default: None,
        contexts: BOTH,
        help: "the name of a host, for X-Forwarded-Server and logs; unset: the machine's; the scheme has no effect",
        action: Action::One(|scope, text| {
            let (name, port) = value::server_name(text)?;
            scope.host.server_name = Some(name.to_owned());
            scope.host.server_port = port;
            Ok(())
        }),
    },
    Entry {
        name: "ServerAlias",
        syntax: "host ...",
        default: None,
        contexts: HOST,
        help: "more names that choose a virtual host; * and ? are wildcards",
        action: Action::UpTo(MANY, |scope, names| {
            for name in names {
                match value::server_alias(name) {
                    Ok(name) => scope.host.aliases.push(name.to_owned()),
                    Err(problem) => scope.error(problem),
                }
            }
            Ok(())
        }),
    },
    Entry {
        name: "RemoteIPProxyProtocol",
        syntax: "On|Off",
        default: Some("Off"),
        contexts: BOTH,
        help: "whether connections begin with a PROXY header, which says who the client is; for all hosts of an address",
        action: Action::Flag(proxy_protocol::switch),
    },
    Entry {
        name: "RemoteIPProxyProtocolExceptions",
        syntax: "network ...",
        default: None,
        contexts: BOTH,
        help: "addresses that connect without a PROXY header all the same",
        action: Action::UpTo(MANY, proxy_protocol::exceptions),
    },
    // ---- the process -------------------------------------------------------------------------------------------
    Entry {
        name: "MaxRequestWorkers",
        syntax: "number",
        default: Some("400"),
        contexts: SERVER,
        help: "the most requests and tunnels at once; more wait until one ends",
        action: Action::One(apply::max_request_workers),
    },
    Entry {
        name: "MaxClients",
        syntax: "number",
        default: None,
        contexts: SERVER,
        help: "the older name of MaxRequestWorkers",
        action: Action::One(apply::max_request_workers),
    },
    Entry {
        name: "ThreadStackSize",
        syntax: "bytes",
        default: Some("131072"),
        contexts: SERVER,
        help: "the stack of a worker, 65536 or more",
        action: Action::One(|scope, text| {
            scope.program.thread_stack_size = value::integer(text, 65_536..=1_073_741_824)?;
            Ok(())
        }),
    },
    Entry {
        name: "ListenBacklog",
        syntax: "number",
        default: Some("511"),
        contexts: SERVER,
        help: "connections that the kernel keeps waiting for each listener; its own limit counts as well",
        action: Action::One(|scope, text| {
            scope.program.listen_backlog = value::integer(text, 1..=i32::MAX)?;
            Ok(())
        }),
    },
    Entry {
        name: "User",
        syntax: "name|#number",
        default: None,
        contexts: SERVER,
        help: "who the process becomes when it has opened all, if it is started as root; root: it stays root",
        action: Action::One(|scope, text| {
            let user = Account::parse(text)?;
            scope.program.user = Some((user, scope.at.clone()));
            Ok(())
        }),
    },
    Entry {
        name: "Group",
        syntax: "name|#number",
        default: None,
        contexts: SERVER,
        help: "the group that the process then has; without it that of the user",
        action: Action::One(|scope, text| {
            let group = Account::parse(text)?;
            scope.program.group = Some((group, scope.at.clone()));
            Ok(())
        }),
    },
    Entry {
        name: "PidFile",
        syntax: "path",
        default: None,
        contexts: SERVER,
        help: "a file that holds the process id while the program runs, and by which -k finds it",
        action: Action::One(|scope, text| {
            scope.program.pid_file = Some(scope.path(text)?);
            Ok(())
        }),
    },
    Entry {
        name: "GracefulShutdownTimeout",
        syntax: "duration",
        default: Some("30"),
        contexts: SERVER,
        help: "how long a graceful stop waits for connections and tunnels; 0: until the last has ended",
        action: Action::One(|scope, text| {
            let limit = value::duration(text, Seconds)?;
            scope.program.graceful_shutdown = (!limit.is_zero()).then_some(limit);
            Ok(())
        }),
    },
    // ---- lines of every httpd configuration that have no meaning here ------------------------------------------
    Entry {
        name: "ServerAdmin",
        syntax: "address",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: error answers name nobody",
        action: Action::Noted("it has no effect: error answers name nobody"),
    },
    Entry {
        name: "ServerSignature",
        syntax: "On|Off|EMail",
        default: None,
        contexts: ALL,
        help: "accepted, and has no effect: error answers have no footer",
        action: Action::Noted("it has no effect: error answers have no footer"),
    },
    Entry {
        name: "ServerTokens",
        syntax: "words",
        default: None,
        contexts: SERVER,
        help: "accepted, and has no effect: the version is never told",
        action: Action::Noted("it has no effect: the version is never told"),
    },
    Entry {
        name: "LimitXMLRequestBody",
        syntax: "bytes",
        default: None,
        contexts: ALL,
        help: "accepted, and has no effect: no XML is read here; LimitRequestBody bounds what backends get",
        action: Action::Noted(
            "it has no effect: no XML is read here, and LimitRequestBody bounds what backends get",
        ),
    },
    Entry {
        name: "DirectoryIndex",
        syntax: "file ...",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no files are served",
        action: Action::Noted("it has no effect: no files are served"),
    },
    Entry {
        name: "AddType",
        syntax: "type extension ...",
        default: None,
        contexts: BOTH,
        help: "accepted, and has no effect: no files are served",
        action: Action::Noted("it has no effect: no files are served"),
    },
    Entry {
        name: "<Directory>",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "accepted with all that is in it, and has no effect: no files are served",
        action: Action::Section(SectionKind::Files),
    },
    Entry {
        name: "<Files>",
        syntax: "name",
        default: None,
        contexts: BOTH,
        help: "as <Directory>",
        action: Action::Section(SectionKind::Files),
    },
    Entry {
        name: "<FilesMatch>",
        syntax: "pattern",
        default: None,
        contexts: BOTH,
        help: "as <Directory>",
        action: Action::Section(SectionKind::Files),
    },
    // ---- reading -----------------------------------------------------------------------------------------------
    Entry {
        name: "ServerRoot",
        syntax: "path",
        default: Some(DEFAULT_SERVER_ROOT),
        contexts: SERVER,
        help: "the folder that relative paths are below",
        action: Action::Reader,
    },
    Entry {
        name: "Include",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "reads other files here: a file, a folder with all below it, or wildcards; none is an error",
        action: Action::Reader,
    },
    Entry {
        name: "IncludeOptional",
        syntax: "path",
        default: None,
        contexts: BOTH,
        help: "as Include, where none is no error",
        action: Action::Reader,
    },
    Entry {
        name: "Define",
        syntax: "name [value]",
        default: None,
        contexts: BOTH,
        help: "sets what ${name} stands for and what <IfDefine> finds, from here on and everywhere",
        action: Action::Reader,
    },
    Entry {
        name: "UnDefine",
        syntax: "name",
        default: None,
        contexts: BOTH,
        help: "takes back Define and -D",
        action: Action::Reader,
    },
    Entry {
        name: "<IfDefine>",
        syntax: "[!]name",
        default: None,
        contexts: BOTH,
        help: "reads what is inside if the name is set by Define or -D; ! turns it round",
        action: Action::Reader,
    },
    Entry {
        name: "<IfModule>",
        syntax: "[!]module",
        default: None,
        contexts: BOTH,
        help: "reads what is inside if this program does the job of that module of httpd",
        action: Action::Reader,
    },
    Entry {
        name: "<IfFile>",
        syntax: "[!]path",
        default: None,
        contexts: BOTH,
        help: "reads what is inside if the file exists",
        action: Action::Reader,
    },
    Entry {
        name: "LoadModule",
        syntax: "module path",
        default: None,
        contexts: SERVER,
        help: "accepted for modules of httpd whose job this program does, and then has no effect",
        action: Action::UpTo(2, apply::load_module),
    },
];

#[cfg(test)]
mod tests {
    use super::super::syntax;
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        for (index, entry) in TABLE.iter().enumerate() {
            let found = TABLE
                .iter()
                .position(|e| e.name.eq_ignore_ascii_case(entry.name));
            assert_eq!(found, Some(index), "{}", entry.name);
        }
    }

    #[test]
    fn the_reader_and_the_table_agree_on_what_is_obeyed_while_reading() {
        let table: std::collections::BTreeSet<String> = TABLE
            .iter()
            .filter(|entry| matches!(entry.action, Action::Reader))
            .map(|entry| entry.name.to_owned())
            .collect();
        let reader = syntax::READ_TIME
            .into_iter()
            .map(str::to_owned)
            .chain(
                syntax::CONDITIONS
                    .into_iter()
                    .map(|name| format!("<{name}>")),
            )
            .collect();
        assert_eq!(table, reader);
    }

    #[test]
    fn what_the_table_knows_is_not_called_unsupported() {
        for entry in TABLE {
            assert_eq!(
                super::super::names::unsupported(entry.name),
                None,
                "{}",
                entry.name
            );
        }
    }
}
