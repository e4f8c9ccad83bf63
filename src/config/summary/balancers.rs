//! The lines about balancers and their members. What is as it is without a word is left out, but for the method.

use super::{on_off, span, write_backend};
use crate::balancer::health::Check;
use crate::balancer::{Balancer, LoadFactor, Settings, Status, Terms};
use crate::config::VirtualHost;
use std::fmt::{self, Write};

/// Whether anybody asks its members how they are.
pub(super) fn is_checked(balancer: &Balancer) -> bool {
    let mut members = balancer.members().iter();
    members.any(|member| member.terms.check.is_some())
}

/// A balancer that has its members in this host, and a line for each of them.
pub(super) fn write_balancer(
    out: &mut String,
    host: &VirtualHost,
    balancer: &Balancer,
) -> fmt::Result {
    let settings = &balancer.settings;
    write!(out, "  {} {}", balancer.name(), settings.method.name())?;
    write_session(out, settings)?;
    write_failover(out, settings)?;
    writeln!(out, "  [{}]", settings.origin)?;
    let tls = host.balancer_tls_policy(balancer);
    for member in balancer.members() {
        write!(out, "    {}", member.name())?;
        write_terms(out, &member.terms)?;
        write_backend(out, host, &member.backend, &tls)?;
        writeln!(out, "  [{}]", member.terms.origin)?;
    }
    Ok(())
}

fn write_session(out: &mut String, settings: &Settings) -> fmt::Result {
    let usual = Settings::default().sticky;
    let sticky = &settings.sticky;
    let Some(names) = &sticky.names else {
        return Ok(());
    };
    write!(out, " session {names}")?;
    match sticky.separator {
        separator if separator == usual.separator => {}
        Some(separator) => write!(out, " separator {}", char::from(separator))?,
        None => write!(out, " separator Off")?,
    }
    if sticky.semicolon_delimits {
        write!(out, " until a semicolon")?;
    }
    if sticky.no_failover {
        write!(out, " no failover")?;
    }
    Ok(())
}

fn write_failover(out: &mut String, settings: &Settings) -> fmt::Result {
    if !settings.timeout.is_zero() {
        write!(out, " waits {}", span(settings.timeout))?;
    }
    if let Some(most) = settings.max_attempts {
        write!(out, " attempts {most}")?;
    }
    if !settings.fail_on_status.is_empty() {
        write!(out, " fails on")?;
        for status in &settings.fail_on_status {
            write!(out, " {status}")?;
        }
    }
    if settings.fail_on_timeout {
        write!(out, " fails on timeout")?;
    }
    if !settings.force_recovery {
        write!(out, " forced recovery {}", on_off(false))?;
    }
    Ok(())
}

fn write_terms(out: &mut String, terms: &Terms) -> fmt::Result {
    let usual = Terms::default();
    if terms.load_factor != LoadFactor::default() {
        write!(out, " factor {}", terms.load_factor)?;
    }
    if terms.lbset != usual.lbset {
        write!(out, " set {}", terms.lbset)?;
    }
    if let Some(route) = &terms.route {
        write!(out, " route {route}")?;
    }
    if let Some(redirect) = &terms.redirect {
        write!(out, " redirect {redirect}")?;
    }
    if terms.retry != usual.retry {
        write!(out, " retry {}", span(terms.retry))?;
    }
    if terms.status != Status::default() {
        write!(out, " status {}", terms.status)?;
    }
    terms
        .check
        .as_ref()
        .map_or(Ok(()), |check| write_check(out, check))
}

fn write_check(out: &mut String, check: &Check) -> fmt::Result {
    write!(
        out,
        " check {} every {}",
        check.method.name(),
        span(check.interval)
    )?;
    if let Some(uri) = &check.uri {
        write!(out, " at {}", uri.as_str())?;
    }
    if check.passes > 1 {
        write!(out, " passes {}", check.passes)?;
    }
    if check.fails > 1 {
        write!(out, " fails {}", check.fails)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn each_host_lists_the_balancers_that_have_their_members_there() {
        let config = config(
            "Listen 80\n<Proxy \"balancer://Rooms\">\nBalancerMember ws://a/x/ timeout=5 max=3\n\
             BalancerMember ws://b:81 loadfactor=2.50 lbset=3 route=two redirect=one retry=500ms status=+H-I+N\n\
             BalancerMember ws://c status=-D loadfactor=1 hcmethod=get11 hcinterval=5 hcpasses=2 hcfails=3 hcuri=/up\n\
             ProxySet lbmethod=bytraffic stickysession=S|s stickysessionsep=! scolonpathdelim=On nofailover=On\n\
             ProxySet timeout=3 maxattempts=0 failonstatus=500,503 failontimeout=On forcerecovery=Off\n\
             </Proxy>\nProxyPass /a balancer://rooms/x\n\
             BalancerMember balancer://plain http://d:8080 hcmethod=TCP\nProxyPass /b balancer://plain\n\
             <VirtualHost *:80>\nServerName h.example\nBalancerMember balancer://own ws://e\n\
             ProxyPass /c balancer://own stickysession=S stickysessionsep=off\n</VirtualHost>\n",
        );
        let summary = config.summary();
        assert!(
            summary.contains("\nhealth checks by at most 16 threads\n"),
            "{summary}"
        );
        let (main, host) = summary.split_once("virtual host h.example").unwrap();
        let of = |part: &str| -> Vec<String> {
            let lines = part
                .lines()
                .skip_while(|line| !line.starts_with("  balancer"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(
            of(main),
            [
                "  balancer://rooms bytraffic session S|s separator ! until a semicolon no failover waits 3s attempts 0 \
                 fails on 500 503 fails on timeout forced recovery Off  [test.conf:3]",
                "    ws://a/x/ upgrade=WebSocket connect 5s step 5s max 3, waiting 5s  [test.conf:3]",
                "    ws://b:81 factor 2.5 set 3 route two redirect one retry 500ms status HN upgrade=WebSocket connect 60s \
                 step 60s  [test.conf:4]",
                "    ws://c check GET11 every 5s at /up passes 2 fails 3 upgrade=WebSocket connect 60s step 60s  [test.conf:5]",
                "  balancer://plain byrequests  [test.conf:10]",
                "    http://d:8080 check TCP every 30s connect 60s step 60s  [test.conf:10]",
                "  \"/a\" -> balancer://rooms/x  [test.conf:9]",
                "  \"/b\" -> balancer://plain  [test.conf:11]",
            ]
        );
        assert_eq!(
            of(host),
            [
                "  balancer://own byrequests session S separator Off  [test.conf:14]",
                "    ws://e upgrade=WebSocket connect 60s step 60s  [test.conf:14]",
                "  \"/a\" -> balancer://rooms/x  [test.conf:9]",
                "  \"/b\" -> balancer://plain  [test.conf:11]",
                "  \"/c\" -> balancer://own  [test.conf:15]",
            ]
        );
    }
}
