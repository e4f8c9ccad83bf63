//! What a balancer makes of a request: the session, what each member is good for, and who is chosen.

use super::{Case, write_backend, write_refusal};
use crate::balancer::{Balancer, Choice, Claim, Flag, Member, Session, Tried, Why};
use crate::config::span;
use crate::handshake;
use crate::http::answer::Refusal;
use crate::ids::Id;
use std::fmt::{self, Write};

/// Tells who gets the request where nothing has happened yet: nobody is busy, and nobody has failed.
pub(super) fn write_balancer(
    out: &mut String,
    case: &Case<'_>,
    balancer: &Balancer,
    target: &str,
) -> fmt::Result {
    let settings = &balancer.settings;
    writeln!(out, "balancer")?;
    writeln!(
        out,
        "  {}, {}  [{}]",
        balancer.name(),
        settings.method.name(),
        settings.origin
    )?;
    if balancer.is_tunnel()
        && let Err(refusal) = handshake::requested_of_any(case.head, balancer.upgrades())
    {
        return write_refusal(out, &refusal);
    }
    let asked = Session {
        target,
        headers: &case.head.headers,
    };
    let claim = settings.sticky.claim(&asked);
    let chosen = balancer.choose(&asked, &Tried::default(), case.now);
    write_session(out, balancer, claim, &chosen)?;
    for member in balancer.members() {
        write_member(out, member)?;
    }
    match chosen {
        Ok(choice) => write_choice(out, case, balancer, &choice, target),
        Err(why) => {
            let waits = !settings.timeout.is_zero() && why != Why::SessionBound;
            if waits {
                writeln!(out, "  waits for a member for {}", span(settings.timeout))?;
            }
            write_refusal(out, &Refusal::new(Id::NoMember, why.to_string()))
        }
    }
}

fn write_session(
    out: &mut String,
    balancer: &Balancer,
    claim: Option<Claim<'_>>,
    chosen: &Result<Choice<'_>, Why>,
) -> fmt::Result {
    let Some(names) = &balancer.settings.sticky.names else {
        return Ok(());
    };
    let Some(Claim { name, route }) = claim else {
        return writeln!(
            out,
            "  no session: nothing in cookie or URL names a route by {names}"
        );
    };
    let is_own = |member: &Member| {
        let own = member.terms.route.as_deref();
        own.is_some_and(|own| own.as_bytes() == route)
    };
    let meaning = match chosen {
        Ok(choice) if choice.is_sticky && is_own(choice.member) => "leads to its member",
        Ok(choice) if choice.is_sticky => "its member cannot be used, and redirect= leads on",
        _ if balancer.members().iter().any(is_own) => "its member cannot be used",
        _ => "no member has it",
    };
    let route = String::from_utf8_lossy(route);
    writeln!(out, "  session: route {route:?} by {name}: {meaning}")
}

/// What the configuration says of a member: whether it may be used, and in whose place.
fn write_member(out: &mut String, member: &Member) -> fmt::Result {
    let terms = &member.terms;
    write!(out, "  {}", member.name())?;
    if let Some(route) = &terms.route {
        write!(out, " route {route}")?;
    }
    if let Some(redirect) = &terms.redirect {
        write!(out, " redirect {redirect}")?;
    }
    if terms.lbset > 0 {
        write!(out, " set {}", terms.lbset)?;
    }
    let rules = [
        (Flag::Stopped, "stopped (S), not used"),
        (Flag::Disabled, "disabled (D), not used"),
        (Flag::Error, "set aside (E) until this request tries it"),
        (Flag::Drain, "draining (N), for its own sessions only"),
        (
            Flag::Spare,
            "hot spare (R), in place of one of its set that cannot be used",
        ),
        (
            Flag::Standby,
            "hot standby (H), where nobody else of its set can be used",
        ),
    ];
    let own = rules.iter().filter(|(flag, _)| terms.status.has(*flag));
    let after = (terms.lbset > 0).then_some("used where no lower set has anybody");
    let mut own: Vec<&str> = own.map(|(_, rule)| *rule).chain(after).collect();
    if own.is_empty() {
        own.push("can be used");
    }
    write!(out, ": {}", own.join("; "))?;
    if let Some(check) = &terms.check {
        write!(
            out,
            ", while its health checks ({}) pass",
            check.method.name()
        )?;
    }
    writeln!(out, "  [{}]", terms.origin)
}

fn write_choice(
    out: &mut String,
    case: &Case<'_>,
    balancer: &Balancer,
    choice: &Choice<'_>,
    target: &str,
) -> fmt::Result {
    let member = choice.member;
    writeln!(
        out,
        "  chosen, if nothing has happened before: {}",
        member.name()
    )?;
    let aside = if member.terms.status.has(Flag::IgnoreErrors) {
        "is used again all the same".to_owned()
    } else {
        format!("is left alone for {}", span(member.terms.retry))
    };
    let others = match balancer.max_attempts() {
        0 => "nobody else is tried".to_owned(),
        1 => "one other is tried".to_owned(),
        most => format!("up to {most} others are tried"),
    };
    writeln!(
        out,
        "  where it cannot be connected to, it {aside}, and {others}"
    )?;
    writeln!(out, "variables")?;
    for (name, value) in choice.variables() {
        let value = String::from_utf8_lossy(value);
        writeln!(out, "  {name}={}", value.escape_debug())?;
    }
    let backend = &member.backend;
    write_backend(out, case, backend, &backend.url.below(target))
}
