//! How many tunnels there may be, how fast they may come, and how old they may get. httpd has no such directives: there,
//! `MaxRequestWorkers` bounds tunnels and everything else alike.

use super::draft::{HostDraft, Hosted, ProgramDraft, Scope};
use super::findings::{Findings, Origin};
use super::value::{self, Unit::Seconds};
use crate::route::settings::{Change, Lifetime};
use std::fmt;
use std::time::Duration;

/// The most that a bound can be; 0 is none.
const MOST: usize = 10_000_000;
/// The most handshakes in a unit of time, and at once.
const FASTEST: u32 = 1_000_000;

/// How many tunnels there may be at a time, for the handshakes of one host; none: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelBounds {
    /// `ProxyWebsocketMaxTunnelsPerAddress`: of the client's address, at all hosts together.
    pub per_address: Option<usize>,
    /// `ProxyWebsocketMaxTunnelsPerHost`: of the host.
    pub per_host: Option<usize>,
    /// `ProxyWebsocketMaxTunnelsPerBackend`: to the backend, from all hosts together.
    pub per_backend: Option<usize>,
}

/// How fast handshakes may come from one address: a bucket of `burst`, into which one more falls each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A microsecond to an hour.
    pub interval: Duration,
    /// How many may come at once, 1 to a million.
    pub burst: u32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one in {:?}, {} at once", self.interval, self.burst)
    }
}

/// The bounds of a host, and where they stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    per_address: Option<Bound>,
    per_host: Option<Bound>,
    per_backend: Option<Bound>,
}

#[derive(Debug, Clone)]
struct Bound {
    most: usize,
    directive: &'static str,
    at: Origin,
}

impl Draft {
    pub(super) fn resolve(&self) -> TunnelBounds {
        let most = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.most);
        TunnelBounds {
            per_address: most(&self.per_address),
            per_host: most(&self.per_host),
            per_backend: most(&self.per_backend),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Bound> {
        let all = [&self.per_address, &self.per_host, &self.per_backend];
        all.into_iter().flatten()
    }
}

/// `ProxyWebsocketMaxTunnels`
pub(super) fn max_tunnels(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.program.max_tunnels = bound(text)?;
    Ok(())
}

/// `ProxyWebsocketMaxTunnelsPerAddress`
pub(super) fn per_address(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.bounds.per_address = bound_here(scope, text)?;
    Ok(())
}

/// `ProxyWebsocketMaxTunnelsPerHost`
pub(super) fn per_host(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.bounds.per_host = bound_here(scope, text)?;
    Ok(())
}

/// `ProxyWebsocketMaxTunnelsPerBackend`
pub(super) fn per_backend(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    scope.host.bounds.per_backend = bound_here(scope, text)?;
    Ok(())
}

fn bound(text: &str) -> Result<Option<usize>, String> {
    let most = value::integer(text, 0..=MOST)?;
    Ok((most > 0).then_some(most))
}

fn bound_here(scope: &Scope<'_>, text: &str) -> Result<Option<Bound>, String> {
    Ok(bound(text)?.map(|most| Bound {
        most,
        directive: scope.directive,
        at: scope.at.clone(),
    }))
}

/// `ProxyWebsocketHandshakeRate Off|number[/s|/min|/h] [burst=number]`. Without `burst=` as many may come at once as in
/// the unit of time.
pub(super) fn handshake_rate(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (first, burst) = match words {
        [first] => (*first, None),
        [first, burst] => match value::key_value(burst) {
            Some((key, number)) if key.eq_ignore_ascii_case("burst") => (*first, Some(number)),
            _ => return Err(format!("expected burst=number, found \"{burst}\"")),
        },
        _ => return Err("expected Off or a number".to_owned()),
    };
    if first.eq_ignore_ascii_case("off") {
        if burst.is_some() {
            return Err("burst= has no meaning behind Off; remove it".to_owned());
        }
        scope.program.handshake_rate = None;
        return Ok(());
    }
    let (number, unit) = first.split_once('/').unwrap_or((first, "s"));
    let unit = match unit.to_ascii_lowercase().as_str() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        _ => {
            return Err(format!(
                "unknown unit \"{unit}\" in \"{first}\"; expected Off, or a number with /s, /min or /h, such as 30/min"
            ));
        }
    };
    let number = value::integer(number, 1..=FASTEST)?;
    let burst = burst.map(|burst| value::integer(burst, 1..=FASTEST));
    let burst = burst
        .transpose()
        .map_err(|problem| format!("burst: {problem}"))?;
    scope.program.handshake_rate = Some(Rate {
        interval: Duration::from_secs(unit) / number,
        burst: burst.unwrap_or(number),
    });
    Ok(())
}

/// `ProxyWebsocketMaxLifetime duration [spread=duration]`. Without `spread=` a tenth.
pub(super) fn max_lifetime(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let (most, spread) = match words {
        [most] => (*most, None),
        [most, spread] => match value::key_value(spread) {
            Some((key, text)) if key.eq_ignore_ascii_case("spread") => (*most, Some(text)),
            _ => return Err(format!("expected spread=duration, found \"{spread}\"")),
        },
        _ => return Err("expected a duration".to_owned()),
    };
    let most = value::duration(most, Seconds)?;
    let spread = spread.map(|text| value::duration(text, Seconds));
    let spread = spread
        .transpose()
        .map_err(|problem| format!("spread: {problem}"))?;
    if let Some(spread) = spread
        && spread >= most
    {
        return Err(format!(
            "a spread of {spread:?} leaves nothing of a lifetime of {most:?}; expected less than that"
        ));
    }
    let lifetime = Lifetime {
        most,
        spread: spread.unwrap_or(most / 10),
    };
    scope.change(Change::Lifetime((!most.is_zero()).then_some(lifetime)));
    Ok(())
}

/// A bound that can never be reached, since another one is reached before.
pub(super) fn check(
    program: &ProgramDraft,
    main: &HostDraft,
    hosts: &[Hosted],
    findings: &mut Findings,
) {
    let Some(total) = program.max_tunnels else {
        return;
    };
    let of_main = || main.bounds.all();
    let own = hosts
        .iter()
        .flat_map(|(host, _, _)| host.bounds.all())
        // What is inherited has been said of the main server.
        .filter(|bound| !of_main().any(|other| other.at == bound.at));
    for Bound {
        most,
        directive,
        at,
    } in of_main().chain(own)
    {
        if *most > total {
            let text =
                format!("{most} are never reached: ProxyWebsocketMaxTunnels allows {total} in all");
            findings.warning(at, directive, text);
        }
    }
}
