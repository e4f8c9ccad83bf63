//! What the logs are told: of which topic a line is, how much is written of each, and how important a line is to who
//! collects it. httpd: `LogLevel`, `ErrorLog syslog:facility`.

#![deny(clippy::indexing_slicing)]

use log::{Level, LevelFilter};
use std::fmt;
use std::path::PathBuf;

/// Where the lines of a log go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// The standard error output.
    #[default]
    Stderr,
    /// The standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// The collector of the system. httpd: `syslog:facility`.
    Syslog {
        /// What the lines come from.
        facility: Facility,
        /// Where it takes them.
        socket: PathBuf,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("standard error"),
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
            Self::Syslog { facility, socket } => {
                write!(f, "syslog:{facility}:{}", socket.display())
            }
        }
    }
}

/// When an access log gets a line. `CustomLog ... event=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Events {
    /// When a request, or its tunnel, ends; as in httpd.
    #[default]
    End,
    /// When a tunnel opens.
    Open,
    /// At either time.
    Both,
}

impl Events {
    /// Parses what stands behind `event=`.
    ///
    /// # Errors
    /// A sentence that names those that are known.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "end" => Ok(Self::End),
            "open" => Ok(Self::Open),
            "both" => Ok(Self::Both),
            _ => Err(format!(
                "\"event={word}\": expected end, open (when a tunnel opens) or both"
            )),
        }
    }

    /// Whether there is a line when a tunnel opens, or otherwise when it or an ordinary request ends.
    pub fn include(self, is_open: bool) -> bool {
        match self {
            Self::End => !is_open,
            Self::Open => is_open,
            Self::Both => true,
        }
    }
}

/// Where the collector of the system takes lines, if nothing else is said.
pub const SYSLOG: &str = "/dev/log";

/// An error log. httpd: `ErrorLog`, `LogLevel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorLogTerms {
    /// Where its lines go.
    pub target: Target,
    /// The least level that is written, of each topic.
    pub levels: Levels,
}

/// What a line of the error log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The program's own life, its threads and files; clients up to a request that meets a mapping.
    Core,
    /// Backends, and what fails on the way to them.
    Proxy,
    /// Tunnels, from the question for one to its end.
    Tunnel,
    /// Ordinary requests and their answers.
    Exchange,
    /// Balancers: who is chosen, and who is set aside.
    Balancer,
    /// Health checks.
    Health,
    /// TLS on either side.
    Tls,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Core,
        Self::Proxy,
        Self::Tunnel,
        Self::Exchange,
        Self::Balancer,
        Self::Health,
        Self::Tls,
    ];

    /// The name that `LogLevel` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Proxy => "proxy",
            Self::Tunnel => "tunnel",
            Self::Exchange => "exchange",
            Self::Balancer => "balancer",
            Self::Health => "health",
            Self::Tls => "tls",
        }
    }

    /// The topic of our own name, or the one that has the lines of a module of httpd: `proxy_wstunnel`,
    /// `proxy_wstunnel_module` or `mod_proxy_wstunnel.c`. httpd: server/core.c `set_loglevel`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(topic) = Self::ALL.into_iter().find(|topic| topic.name() == name) {
            return Some(topic);
        }
        Some(match module(name) {
            "core" | "http" | "http_core" | "mpm_event" | "mpm_worker" | "mpm_prefork"
            | "event" | "worker" | "prefork" | "so" | "unixd" | "systemd" | "log_config"
            | "remoteip" | "reqtimeout" | "authz_core" | "authz_host" | "access_compat" => {
                Self::Core
            }
            "proxy" => Self::Proxy,
            "proxy_wstunnel" => Self::Tunnel,
            "proxy_http" => Self::Exchange,
            "proxy_balancer"
            | "lbmethod_byrequests"
            | "lbmethod_bytraffic"
            | "lbmethod_bybusyness" => Self::Balancer,
            "proxy_hcheck" | "watchdog" => Self::Health,
            "ssl" | "socache_shmcb" => Self::Tls,
            _ => return None,
        })
    }

    /// The topic of what a module of this program says by the `log` crate.
    pub fn of_module(path: &str) -> Self {
        let rooms = path.split_once("::").map_or("", |(_, rooms)| rooms);
        match rooms {
            _ if rooms.starts_with("tunnel") => Self::Tunnel,
            _ if rooms.starts_with("server::health") => Self::Health,
            _ if rooms.starts_with("net::tls") => Self::Tls,
            _ => Self::Core,
        }
    }
}

/// What httpd calls a module in short, from any of the three forms that it takes.
pub fn module(name: &str) -> &str {
    let name = name.strip_suffix("_module").unwrap_or(name);
    match name.strip_suffix(".c") {
        Some(file) => file.strip_prefix("mod_").unwrap_or(file),
        None => name,
    }
}

/// The least level that is written of each topic. httpd: `LogLevel`, which is `warn` by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    of_all: LevelFilter,
    /// By their place among the topics.
    of_one: [Option<LevelFilter>; Topic::ALL.len()],
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            of_all: LevelFilter::Warn,
            of_one: [None; Topic::ALL.len()],
        }
    }
}

impl Levels {
    /// Sets the level of all topics, which forgets what was set for single ones before.
    pub fn set_all(&mut self, level: LevelFilter) {
        *self = Self {
            of_all: level,
            ..Self::default()
        };
    }

    /// Sets the level of one topic.
    pub fn set(&mut self, topic: Topic, level: LevelFilter) {
        if let Some(place) = self.of_one.get_mut(topic as usize) {
            *place = Some(level);
        }
    }

    /// The level of a topic.
    pub fn of(&self, topic: Topic) -> LevelFilter {
        let own = self.of_one.get(topic as usize).copied().flatten();
        own.unwrap_or(self.of_all)
    }

    /// The level of the topic of which the most is written.
    pub fn most(&self) -> LevelFilter {
        let levels = Topic::ALL.into_iter().map(|topic| self.of(topic));
        levels.fold(self.of_all, Ord::max)
    }
}

impl fmt::Display for Levels {
    /// As `LogLevel` takes them, in words of five levels: `warn tls:debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |level: LevelFilter| level.as_str().to_ascii_lowercase();
        f.write_str(&word(self.of_all))?;
        for topic in Topic::ALL {
            let level = self.of(topic);
            if level != self.of_all {
                write!(f, " {}:{}", topic.name(), word(level))?;
            }
        }
        Ok(())
    }
}

/// Parses one of the sixteen levels of httpd, for the five that there are.
///
/// # Errors
/// A sentence that names those that are known.
pub fn level(word: &str) -> Result<LevelFilter, String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "emerg" | "alert" | "crit" | "error" => LevelFilter::Error,
        "warn" => LevelFilter::Warn,
        "notice" | "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "trace1" | "trace2" | "trace3" | "trace4" | "trace5" | "trace6" | "trace7" | "trace8" => {
            LevelFilter::Trace
        }
        _ => {
            return Err(format!(
                "unknown level \"{word}\"; expected emerg, alert, crit, error, warn, notice, info, debug or trace1 to \
                 trace8"
            ));
        }
    })
}

/// How important a line is, as syslog and the journal count it: 0 is the most. Source: RFC 5424 section 6.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severity(u8);

impl Severity {
    /// The life of the program.
    pub const NOTICE: Self = Self(5);
    /// A line of an access log.
    pub const ACCESS: Self = Self(6);

    /// That of a level.
    pub fn of(level: Level) -> Self {
        Self(match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        })
    }

    /// What the journal takes in front of a line (sd-daemon(3)), and syslog for the facility 0: `<4>`.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// What kind of program a line comes from. Source: RFC 5424 section 6.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility {
    number: u8,
    name: &'static str,
}

impl Facility {
    /// As in httpd, which has the last eight for whatever the operator wants.
    const DEFAULT: &'static str = "local7";
    const NAMES: [(&'static str, u8); 20] = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];

    /// Parses what stands behind `syslog:`; nothing means `local7`, as in httpd.
    ///
    /// # Errors
    /// A sentence that names those that are known.
    pub fn parse(name: Option<&str>) -> Result<Self, String> {
        let wanted = name.unwrap_or(Self::DEFAULT);
        let known = |(name, _): &&(&str, u8)| name.eq_ignore_ascii_case(wanted);
        match Self::NAMES.iter().find(known) {
            Some((name, number)) => Ok(Self {
                number: *number,
                name,
            }),
            None => Err(format!(
                "unknown facility \"{wanted}\" of syslog; expected kern, user, mail, daemon, auth, syslog, lpr, news, \
                 uucp, cron, authpriv, ftp or local0 to local7"
            )),
        }
    }

    /// What a line of this severity begins with, without its angle brackets. Source: RFC 5424 section 6.2.1.
    pub fn priority(self, severity: Severity) -> u16 {
        u16::from(self.number) * 8 + u16::from(severity.0)
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_our_name_and_those_of_httpd_in_all_their_forms() {
        for (names, topic) in [
            ("proxy proxy_module mod_proxy.c", Topic::Proxy),
            (
                "tunnel proxy_wstunnel proxy_wstunnel_module mod_proxy_wstunnel.c",
                Topic::Tunnel,
            ),
            ("tls ssl ssl_module mod_ssl.c", Topic::Tls),
            (
                "core core_module core.c http http_core.c mpm_event",
                Topic::Core,
            ),
            ("exchange proxy_http mod_proxy_http.c", Topic::Exchange),
            (
                "balancer proxy_balancer lbmethod_bytraffic_module",
                Topic::Balancer,
            ),
            ("health proxy_hcheck mod_proxy_hcheck.c", Topic::Health),
        ] {
            for name in names.split(' ') {
                assert_eq!(Topic::named(name), Some(topic), "{name}");
            }
        }
        for name in ["", "rewrite", "mod_", "Proxy", "server"] {
            assert_eq!(Topic::named(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_said_by_the_log_crate_belongs_to_the_room_that_says_it() {
        for (path, topic) in [
            ("proxy_wstunnel::tunnel", Topic::Tunnel),
            ("proxy_wstunnel::tunnel::event_loop", Topic::Tunnel),
            ("proxy_wstunnel::server::health::probe", Topic::Health),
            ("proxy_wstunnel::net::tls::backend", Topic::Tls),
            ("proxy_wstunnel::server::pool", Topic::Core),
            ("somebody", Topic::Core),
        ] {
            assert_eq!(Topic::of_module(path), topic, "{path}");
        }
    }

    #[test]
    fn a_level_for_all_forgets_those_of_single_topics_before_it() {
        let mut levels = Levels::default();
        assert_eq!(levels.to_string(), "warn");
        levels.set(Topic::Tls, LevelFilter::Trace);
        levels.set_all(LevelFilter::Error);
        levels.set(Topic::Proxy, LevelFilter::Debug);
        levels.set(Topic::Health, LevelFilter::Error);
        assert_eq!(levels.of(Topic::Tls), LevelFilter::Error);
        assert_eq!(levels.of(Topic::Proxy), LevelFilter::Debug);
        assert_eq!(levels.most(), LevelFilter::Debug);
        assert_eq!(levels.to_string(), "error proxy:debug");
    }

    #[test]
    fn a_priority_is_made_of_facility_and_severity() {
        let facility = |name| Facility::parse(name).unwrap();
        let warning = Severity::of(Level::Warn);
        assert_eq!(facility(None).priority(warning), 188);
        assert_eq!(facility(Some("Daemon")).priority(Severity::NOTICE), 29);
        let error = Facility::parse(Some("local8")).unwrap_err();
        assert!(error.contains("unknown facility \"local8\""), "{error}");
    }
}
