//! Which connections begin with a PROXY header. It is read before any name is known, so that the address of a connection
//! decides, for all virtual hosts that have it. Source: httpd mod_remoteip.c `remoteip_enable_proxy_protocol`.

use super::HostAddress;
use super::draft::{HostDraft, Scope};
use super::findings::{Findings, Origin};
use crate::http::network::Network;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

const SWITCH: &str = "RemoteIPProxyProtocol";
const EXCEPTIONS: &str = "RemoteIPProxyProtocolExceptions";

/// Which connections begin with a PROXY header. httpd: `RemoteIPProxyProtocol`, `RemoteIPProxyProtocolExceptions`.
#[derive(Debug, Clone, Default)]
pub struct ProxyProtocol {
    /// For the addresses of virtual hosts; empty where no connection begins with one.
    by_address: Vec<(HostAddress, Rule)>,
    /// For connections to other addresses.
    main: Rule,
}

#[derive(Debug, Clone, Default)]
struct Rule {
    is_on: bool,
    exceptions: Vec<Network>,
}

impl ProxyProtocol {
    /// Brings together what hosts of one address say.
    pub(super) fn resolve<'d>(
        main: &'d HostDraft,
        hosts: impl Iterator<Item = (&'d HostDraft, &'d [HostAddress])>,
        findings: &mut Findings,
    ) -> Self {
        let main = &main.proxy_protocol;
        let mut by_address: Vec<(HostAddress, Draft)> = Vec::new();
        for (host, addresses) in hosts {
            for address in addresses {
                let known = by_address.iter_mut().find(|(known, _)| known == address);
                match known {
                    Some((_, draft)) => draft.join(&host.proxy_protocol, main, findings),
                    None => by_address.push((*address, host.proxy_protocol.clone())),
                }
            }
        }
        let is_anywhere = main.is_on() || by_address.iter().any(|(_, draft)| draft.is_on());
        if !is_anywhere {
            let drafts = by_address.iter().map(|(_, draft)| draft).chain([main]);
            for (_, at) in drafts.flat_map(|draft| &draft.exceptions) {
                let text = format!("has no effect: \"{SWITCH} On\" stands nowhere");
                findings.warning(at, EXCEPTIONS, text);
            }
            return Self::default();
        }
        let by_address = by_address.iter();
        Self {
            by_address: by_address
                .map(|(address, draft)| (*address, draft.rule()))
                .collect(),
            main: main.rule(),
        }
    }

    /// Whether the connection of `peer` to `local` begins with a header.
    #[must_use]
    pub fn is_expected(&self, local: SocketAddr, peer: IpAddr) -> bool {
        let fitting = self.by_address.iter();
        let fitting = fitting.filter_map(|(address, rule)| Some((address.fit(local)?, rule)));
        let best = fitting.max_by_key(|(fit, _)| *fit);
        let rule = best.map_or(&self.main, |(_, rule)| rule);
        let is_excepted = |network: &Network| network.contains(peer);
        rule.is_on && !rule.exceptions.iter().any(is_excepted)
    }
}

impl fmt::Display for ProxyProtocol {
    /// A line for each address where connections begin with a header; nothing where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_address = self.by_address.iter();
        let addresses = by_address.map(|(address, rule)| (address.to_string(), rule));
        let others = if self.by_address.is_empty() {
            "every address"
        } else {
            "every other address"
        };
        let others = (others.to_owned(), &self.main);
        for (address, rule) in addresses.chain([others]).filter(|(_, rule)| rule.is_on) {
            write!(f, "  PROXY header at {address}")?;
            for (place, network) in rule.exceptions.iter().enumerate() {
                let before = if place == 0 { " except from" } else { "," };
                write!(f, "{before} {network}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// What a host says so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// And where. A virtual host inherits it, and then says nothing of its own.
    switch: Option<(bool, Origin)>,
    /// And where the last of them stands.
    exceptions: Vec<(Network, Origin)>,
}

impl Draft {
    fn is_on(&self) -> bool {
        self.switch.as_ref().is_some_and(|(on, _)| *on)
    }

    fn rule(&self) -> Rule {
        let exceptions = self.exceptions.iter();
        Rule {
            is_on: self.is_on(),
            exceptions: exceptions.map(|(network, _)| network.clone()).collect(),
        }
    }

    /// Adds what a further host of the same address says.
    // httpd: of two hosts that contradict each other the last wins, and a notice says so.
    fn join(&mut self, other: &Self, main: &Self, findings: &mut Findings) {
        if other.switch != main.switch {
            match (&self.switch, &other.switch) {
                (Some((known, known_at)), Some((on, at)))
                    if self.switch != main.switch && known != on =>
                {
                    let problem = format!(
                        "another host of the same address says otherwise at {known_at}, and the header is read before \
                         the name of the host is known; write it in one of them"
                    );
                    findings.error(at, SWITCH, problem);
                }
                _ => self.switch.clone_from(&other.switch),
            }
        }
        for exception in &other.exceptions {
            if !self.exceptions.contains(exception) {
                self.exceptions.push(exception.clone());
            }
        }
    }
}

pub(super) fn switch(scope: &mut Scope<'_>, on: bool) -> Result<(), String> {
    scope.host.proxy_protocol.switch = Some((on, scope.at.clone()));
    Ok(())
}

/// Names are refused, as everywhere: what is let in does not depend on DNS.
pub(super) fn exceptions(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    for word in words {
        match Network::parse(word) {
            Ok(network) => {
                let exception = (network, scope.at.clone());
                scope.host.proxy_protocol.exceptions.push(exception);
            }
            Err(problem) => scope.error(problem),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::Fake;
    use crate::config::{Config, ConfigError, Sources, load};

    fn try_load(text: &str) -> Result<Config, Vec<ConfigError>> {
        let text = format!("Listen 80\nListen 81\nProxyPass / ws://b/\n{text}");
        let sources = Sources {
            file: Some("test.conf".into()),
            ..Sources::default()
        };
        load(&sources, &Fake::with(&[("test.conf", &text)]))
    }

    fn config(text: &str) -> Config {
        try_load(text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn expected(config: &Config, local: &str, peer: &str) -> bool {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        config.proxy_protocol.is_expected(local, peer)
    }

    const PEER: &str = "192.0.2.9";

    #[test]
    fn without_the_directive_no_connection_begins_with_a_header() {
        for text in [
            "",
            "RemoteIPProxyProtocol Off",
            "<VirtualHost *>\n</VirtualHost>",
        ] {
            let config = config(text);
            assert!(!expected(&config, "192.0.2.1:80", PEER), "{text}");
            assert!(config.proxy_protocol.by_address.is_empty(), "{text}");
            assert_eq!(config.proxy_protocol.to_string(), "");
        }
    }

    #[test]
    fn the_address_decides_for_all_hosts_that_have_it() {
        let config = config(
            "<VirtualHost 192.0.2.1:80 192.0.2.2:80>\n</VirtualHost>\n\
             <VirtualHost 192.0.2.1:80>\nRemoteIPProxyProtocol On\n</VirtualHost>\n\
             <VirtualHost *:81>\nRemoteIPProxyProtocol On\n</VirtualHost>\n\
             <VirtualHost 192.0.2.3:81>\n</VirtualHost>",
        );
        for (local, on) in [
            ("192.0.2.1:80", true),
            ("[::ffff:192.0.2.1]:80", true),
            ("192.0.2.2:80", false),
            ("192.0.2.1:81", true),
            // Another host serves it.
            ("192.0.2.3:81", false),
            ("192.0.2.1:82", false),
        ] {
            assert_eq!(expected(&config, local, PEER), on, "{local}");
        }
        assert_eq!(
            config.proxy_protocol.to_string(),
            "  PROXY header at 192.0.2.1:80\n  PROXY header at *:81\n"
        );
    }

    #[test]
    fn hosts_inherit_it_and_one_may_say_otherwise_for_its_address() {
        let config = config(
            "<VirtualHost *:81>\nRemoteIPProxyProtocol Off\n</VirtualHost>\n\
             <VirtualHost *:80>\n</VirtualHost>\n<VirtualHost *:81>\n</VirtualHost>\n\
             RemoteIPProxyProtocol On\nRemoteIPProxyProtocolExceptions 10.0.0.0/8 ::1",
        );
        assert!(expected(&config, "192.0.2.1:80", PEER));
        assert!(!expected(&config, "192.0.2.1:81", PEER));
        assert!(expected(&config, "192.0.2.1:82", PEER));
        assert!(!expected(&config, "192.0.2.1:80", "10.1.2.3"));
        assert!(!expected(&config, "192.0.2.1:80", "::ffff:10.1.2.3"));
        assert!(!expected(&config, "192.0.2.1:82", "::1"));
        assert_eq!(
            config.proxy_protocol.to_string(),
            "  PROXY header at *:80 except from 10.0.0.0/8, ::1\n\
             \x20 PROXY header at every other address except from 10.0.0.0/8, ::1\n"
        );
    }

    #[test]
    fn exceptions_of_all_hosts_of_an_address_count() {
        let config = config(
            "RemoteIPProxyProtocol On\n\
             <VirtualHost *:80>\nRemoteIPProxyProtocolExceptions 192.0.2.1\n</VirtualHost>\n\
             <VirtualHost *:80>\nRemoteIPProxyProtocolExceptions 192.0.2.2\n</VirtualHost>",
        );
        assert!(!expected(&config, "127.0.0.1:80", "192.0.2.1"));
        assert!(!expected(&config, "127.0.0.1:80", "192.0.2.2"));
        assert!(expected(&config, "127.0.0.1:80", "192.0.2.3"));
        assert!(expected(&config, "127.0.0.1:81", "192.0.2.1"));
    }

    #[test]
    fn hosts_of_one_address_that_contradict_each_other_are_refused() {
        let host =
            |on: &str| format!("<VirtualHost *:80>\nRemoteIPProxyProtocol {on}\n</VirtualHost>\n");
        let errors = try_load(&(host("On") + &host("Off"))).unwrap_err();
        let [error] = &*errors else {
            panic!("{errors:?}");
        };
        assert!(error.to_string().starts_with(
            "test.conf:8: RemoteIPProxyProtocol: another host of the same address says otherwise at test.conf:5"
        ));
        // Agreement is none, whoever says it twice.
        assert!(try_load(&(host("On") + &host("On"))).is_ok());
        assert!(try_load(&format!("RemoteIPProxyProtocol On\n{}", host("Off"))).is_ok());
    }

    #[test]
    fn exceptions_without_a_rule_are_doubted() {
        let config = config(
            "RemoteIPProxyProtocolExceptions 10.0.0.0/8\n<VirtualHost *:80>\n</VirtualHost>",
        );
        let [warning] = &*config.warnings else {
            panic!("{:?}", config.warnings);
        };
        assert!(
            warning
                .to_string()
                .contains("\"RemoteIPProxyProtocol On\" stands nowhere")
        );
        let errors = try_load("RemoteIPProxyProtocolExceptions monitor.example").unwrap_err();
        assert!(
            errors
                .iter()
                .any(|error| error.problem.contains("expected an address"))
        );
    }
}
