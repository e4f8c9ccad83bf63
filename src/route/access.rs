//! Who may connect: `Require` with its sections (httpd mod_authz_core, mod_authz_host), and `Order`, `Allow` and `Deny`
//! (mod_access_compat). Where both kinds stand, both have to permit.
//!
//! A rule of `Require` gives one of three results. `not` makes a denial of a permission and nothing at all of a denial:
//! that somebody is not forbidden does not mean that he is allowed. A section ignores what is neither. In the end only a
//! permission permits.

mod builder;

use super::environment::{Condition, Environment};
use super::facts::Facts;
use crate::http::network::Network;
pub use builder::Builder;
use std::sync::Arc;

/// The rules of one place of the configuration. A clone shares them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    require: Option<Arc<Section>>,
    compat: Option<Arc<Compat>>,
}

/// How the rules of a section make one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `<RequireAll>`: none denies, and one permits.
    All,
    /// `<RequireAny>`, and every list outside of a section: one permits.
    Any,
    /// `<RequireNone>`: denies if one permits, and else says nothing.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    kind: Kind,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    is_negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// `all granted`, `all denied`
    All(bool),
    Ip(Vec<Network>),
    Local,
    Method(Vec<String>),
    /// One of these variables is set.
    Env(Vec<String>),
    Section(Section),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Granted,
    Denied,
    Neutral,
}

/// `Order`, `Allow` and `Deny`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Compat {
    order: Order,
    allow: Vec<Whom>,
    deny: Vec<Whom>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Order {
    /// Permitted is what no line speaks of; `Allow` wins.
    #[default]
    DenyAllow,
    /// Denied is what no line speaks of; `Deny` wins. `mutual-failure` comes to the same.
    AllowDeny,
}

/// What stands behind `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    All,
    /// `localhost`
    Loopback,
    Network(Network),
    Variable(Condition),
}

/// A request, as far as rules look at it.
#[derive(Clone, Copy)]
struct Asking<'a> {
    facts: &'a Facts<'a>,
    environment: &'a Environment,
    method: &'a str,
}

impl Access {
    /// Takes the lines of one place in their order.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// `Require local`
    pub fn local() -> Self {
        let rule = Rule {
            is_negated: false,
            test: Test::Local,
        };
        let section = Section {
            kind: Kind::Any,
            rules: vec![rule],
        };
        Self {
            require: Some(Arc::new(section)),
            compat: None,
        }
    }

    /// Whether there is no rule at all, so that everything is permitted.
    pub fn is_empty(&self) -> bool {
        self.require.is_none() && self.compat.is_none()
    }

    /// These rules where they stand inside of `base`. Lines of a kind replace all lines of that kind, as in httpd
    /// (`AuthMerging Off`).
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        Self {
            require: self.require.as_ref().or(base.require.as_ref()).cloned(),
            compat: self.compat.as_ref().or(base.compat.as_ref()).cloned(),
        }
    }

    /// Whether a request may go on. The address that counts is that of the client, behind trusted proxies.
    pub fn permits(&self, facts: &Facts<'_>, environment: &Environment, method: &str) -> bool {
        let asking = Asking {
            facts,
            environment,
            method,
        };
        let compat = self.compat.as_ref();
        let require = self.require.as_ref();
        compat.is_none_or(|compat| compat.permits(asking))
            && require.is_none_or(|section| section.outcome(asking) == Outcome::Granted)
    }
}

impl Section {
    /// httpd mod_authz_core.c `apply_authz_sections`
    fn outcome(&self, asking: Asking<'_>) -> Outcome {
        let decisive = match self.kind {
            Kind::All => Outcome::Denied,
            Kind::Any | Kind::None => Outcome::Granted,
        };
        let mut outcome = Outcome::Neutral;
        for rule in &self.rules {
            match rule.outcome(asking) {
                Outcome::Neutral => {}
                found => outcome = found,
            }
            if outcome == decisive {
                break;
            }
        }
        match self.kind {
            Kind::None => outcome.negated(),
            Kind::All | Kind::Any => outcome,
        }
    }
}

impl Rule {
    fn outcome(&self, asking: Asking<'_>) -> Outcome {
        let client = asking.facts.client.ip().to_canonical();
        let holds = match &self.test {
            Test::All(granted) => *granted,
            Test::Ip(networks) => networks.iter().any(|network| network.contains(client)),
            // All of 127.0.0.0/8, as in httpd.
            Test::Local => client.is_loopback() || client == asking.facts.local.ip().to_canonical(),
            Test::Method(methods) => methods
                .iter()
                .any(|method| method == known_as(asking.method)),
            Test::Env(names) => names.iter().any(|name| asking.environment.is_set(name)),
            Test::Section(section) => return section.outcome(asking),
        };
        let outcome = match holds {
            true => Outcome::Granted,
            false => Outcome::Denied,
        };
        match self.is_negated {
            true => outcome.negated(),
            false => outcome,
        }
    }

    /// Whether it can only deny.
    fn is_negative(&self) -> bool {
        match &self.test {
            Test::Section(section) => section.kind == Kind::None,
            _ => self.is_negated,
        }
    }
}

impl Outcome {
    fn negated(self) -> Self {
        match self {
            Self::Granted => Self::Denied,
            Self::Denied | Self::Neutral => Self::Neutral,
        }
    }
}

/// HEAD counts as GET, as everywhere in httpd.
fn known_as(method: &str) -> &str {
    match method {
        "HEAD" => "GET",
        method => method,
    }
}

impl Compat {
    /// httpd mod_access_compat.c `check_dir_access`
    fn permits(&self, asking: Asking<'_>) -> bool {
        let any = |list: &[Whom]| list.iter().any(|from| from.holds(asking));
        match self.order {
            Order::DenyAllow => any(&self.allow) || !any(&self.deny),
            Order::AllowDeny => any(&self.allow) && !any(&self.deny),
        }
    }
}

impl Whom {
    fn holds(&self, asking: Asking<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Loopback => asking.facts.client.ip().to_canonical().is_loopback(),
            Self::Network(network) => network.contains(asking.facts.client.ip()),
            Self::Variable(condition) => condition.holds(asking.environment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::builder::tests::take;
    use super::*;
    use crate::route::facts::testing::facts;
    use std::net::SocketAddr;

    /// The rules of these lines, between which stands "; ".
    fn access(lines: &str) -> Access {
        let mut builder = Access::builder();
        for line in lines.split("; ").filter(|line| !line.is_empty()) {
            take(&mut builder, line).unwrap();
        }
        builder.finish()
    }

    fn permits(access: &Access, client: &str, method: &str) -> bool {
        let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
        let facts = Facts {
            client: address(client),
            // It has no say.
            peer: address("192.0.2.99"),
            local: address("198.51.100.1"),
            ..facts()
        };
        let mut environment = Environment::default();
        environment.set("SET", b"");
        access.permits(&facts, &environment, method)
    }

    #[test]
    fn rules_permit_as_in_httpd() {
        for (lines, permitted, denied) in [
            ("", "192.0.2.1", ""),
            ("Require all granted", "192.0.2.1 ::1", ""),
            ("Require all denied", "", "127.0.0.1"),
            (
                "Require ip 10 2001:db8::/32",
                "10.1.1.1 ::ffff:10.0.0.1 2001:db8::1",
                "11.0.0.1 ::1",
            ),
            (
                "Require local",
                "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1 198.51.100.1",
                "198.51.100.2",
            ),
            (
                "Require host LocalHost",
                "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1",
                "198.51.100.1",
            ),
            (
                "Order allow,deny; Allow from localhost",
                "127.9.9.9 ::1 ::ffff:127.0.0.1",
                "198.51.100.1",
            ),
            ("Require env SET", "10.0.0.1", ""),
            ("Require env NONE", "", "10.0.0.1"),
            ("Require env NONE set", "10.0.0.1", ""),
            ("Require method GET POST", "10.0.0.1", ""),
            ("Require method HEAD", "10.0.0.1", ""),
            ("Require method POST", "", "10.0.0.1"),
            (
                "Require ip 10; Require ip 11",
                "10.0.0.1 11.0.0.1",
                "12.0.0.1",
            ),
            ("Require all denied; Require ip 10", "10.0.0.1", "11.0.0.1"),
            (
                "<RequireAll>; Require all granted; Require not ip 10 11; </RequireAll>",
                "12.0.0.1",
                "10.0.0.1 11.0.0.1",
            ),
            (
                "<RequireAll>; Require NOT ip 10.1; Require ip 10; </RequireAll>",
                "10.2.0.1",
                "10.1.0.1 12.0.0.1",
            ),
            (
                "<RequireAll>; Require all granted; <RequireNone>; Require ip 10; Require ip 11; </RequireNone>; </RequireAll>",
                "12.0.0.1",
                "10.0.0.1 11.0.0.1",
            ),
            (
                "<RequireAny>; Require ip 10; <RequireAll>; Require ip 11; Require method GET; </RequireAll>; </RequireAny>",
                "10.0.0.1 11.0.0.1",
                "12.0.0.1",
            ),
            (
                "Require ip 12; <RequireAll>; Require ip 11; Require method POST; </RequireAll>",
                "12.0.0.1",
                "11.0.0.1",
            ),
            (
                "<RequireAll>; Require all granted; <RequireNone>; <RequireAll>; Require ip 10; Require not ip 10.1; \
                 </RequireAll>; </RequireNone>; </RequireAll>",
                "10.1.0.1 11.0.0.1",
                "10.2.0.1",
            ),
            (
                "<RequireAll>; Require not all denied; Require not ip 11; Require method GET; </RequireAll>",
                "10.0.0.1",
                "11.0.0.1",
            ),
        ] {
            let access = access(lines);
            assert_eq!(access.is_empty(), lines.is_empty());
            for client in permitted.split_whitespace() {
                assert!(permits(&access, client, "GET"), "{lines}: {client}");
            }
            for client in denied.split_whitespace() {
                assert!(!permits(&access, client, "GET"), "{lines}: {client}");
            }
        }
        assert!(permits(&access("Require method GET"), "::1", "HEAD"));
        assert!(!permits(&access("Require method GET"), "::1", "get"));
        assert!(!permits(&access("Require method OPTIONS"), "::1", "FOO"));
    }

    #[test]
    fn order_allow_and_deny_permit_as_in_httpd() {
        // For each order: nothing said, allowed only, denied only, both.
        for (order, permitted) in [
            ("", [true, true, false, true]),
            ("Order Deny,Allow; ", [true, true, false, true]),
            ("Order allow,deny; ", [false, true, false, false]),
            ("Order mutual-failure; ", [false, true, false, false]),
        ] {
            let access = access(&format!("{order}Allow from 10 11; Deny From 12 11"));
            let clients = ["9.0.0.1", "10.0.0.1", "12.0.0.1", "11.0.0.1"];
            let found = clients.map(|client| permits(&access, client, "GET"));
            assert_eq!(found, permitted, "{order}");
        }
        for (lines, permitted) in [
            ("Deny from all", false),
            ("Deny from ALL; Allow from 10.0.0.0/8 env=NONE", true),
            ("Deny from all; Allow from env=SET", true),
            ("Deny from all; Allow from env=!SET", false),
            ("Deny from env=!NONE", false),
            ("Order allow,deny", false),
            ("Order allow,deny; Order deny,allow", true),
            // With Require both have to permit.
            ("Deny from all; Require all granted", false),
            ("Order deny,allow; Require all denied", false),
            ("Satisfy All; Allow from all; Require ip 10", true),
        ] {
            assert_eq!(
                permits(&access(lines), "10.0.0.1", "GET"),
                permitted,
                "{lines}"
            );
        }
    }

    #[test]
    fn an_inner_place_replaces_the_lines_of_its_kind() {
        let outer = access("Require all denied; Deny from all");
        let require = access("Require all granted").over(&outer);
        assert!(!permits(&require, "10.0.0.1", "GET"));
        let compat = access("Allow from all").over(&outer);
        assert!(!permits(&compat, "10.0.0.1", "GET"));
        assert!(permits(
            &access("Allow from all").over(&require),
            "10.0.0.1",
            "GET"
        ));
        assert_eq!(access("").over(&outer), outer);
    }
}
