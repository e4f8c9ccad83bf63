//! Which backend or balancer a request is for, and what is asked for there. Here is what stands around that: who the client
//! is and what its fields say before and after, the variables, and the last look at a target; the walk itself is in `walk`.
#![deny(clippy::indexing_slicing)]

pub mod access;
mod arrival;
pub mod backend;
pub mod destination;
pub mod edit;
pub mod environment;
pub mod facts;
pub mod location;
pub mod mapping;
pub mod own_name;
pub mod pattern;
pub mod place;
pub mod proxied;
pub mod remote_ip;
pub mod reverse;
pub mod rewrite;
pub mod set_env;
pub mod settings;
pub mod template;
pub mod url;
mod walk;

pub use arrival::Arrival;
pub use own_name::HostName;

use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::http::headers::Headers;
use crate::ids::Id;
use backend::Backend;
use destination::Destination;
use edit::{Circumstances, HeaderEdit};
use environment::Environment;
use facts::Tell;
use location::Location;
use mapping::{Action, Mapping};
use own_name::OwnName;
use proxied::Proxied;
use remote_ip::RemoteIp;
use rewrite::Rules;
use set_env::{Asking, SetEnvIf};
use settings::{Change, Handler, Settings};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use url::{BackendUrl, Slashes};

/// All that one virtual host knows of paths.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// What the host is called.
    pub name: HostName,
    /// `RemoteIPHeader`, with the proxies that are trusted.
    pub remote_ip: Option<RemoteIp>,
    /// `AllowEncodedSlashes`
    pub slashes: Slashes,
    /// `SetEnvIf` and its kin outside of sections, in the order of the lines. They see the path as the client wrote it.
    pub set_env_if: Vec<Arc<SetEnvIf>>,
    /// What holds where no section changes it.
    pub settings: Settings,
    /// `RewriteRule`, tried before all others.
    pub rules: Rules,
    /// `<Proxy>` and `<ProxyMatch>` that change something, in the order of the file; all that name what a backend is asked
    /// for apply, before the locations.
    pub proxied: Vec<Arc<Proxied>>,
    /// `<Location>` and `<LocationMatch>`, in the order of the file; all that hold a path apply, the last one strongest.
    pub locations: Vec<Arc<Location>>,
    /// `ProxyPass` and `ProxyPassMatch` outside of locations, first match wins.
    pub mappings: Vec<Arc<Mapping>>,
}

/// What a request resolved to.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The client, as rules and logs shall see it.
    pub client: SocketAddr,
    /// How it is dealt with, also where it is refused.
    pub settings: Cow<'a, Settings>,
    /// What rules said about it.
    pub environment: Environment,
    /// What its `Host` said before `RequestHeader` changed the fields, empty if there was none; none: nothing was changed.
    pub host: Option<Vec<u8>>,
    /// Where it goes.
    pub outcome: Result<Found, Refusal>,
}

/// What a request is for.
#[derive(Debug, Clone)]
pub enum Found {
    /// A backend, or one that a balancer chooses.
    Route(Route),
    /// This program itself.
    Handler(Handler),
}

impl Decision<'_> {
    /// `SetEnv`, for a request that no rule has refused (httpd: fixups).
    fn set_variables(&mut self, tell: &mut Tell<'_>) {
        let is_refused = |refusal: &Refusal| refusal.id != Id::NotMapped;
        if self.outcome.as_ref().is_err_and(is_refused) {
            return;
        }
        for variable in &self.settings.variables {
            variable.apply(&mut self.environment, tell);
        }
    }
}

/// The way to a backend, or to a balancer that chooses one.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where to.
    pub to: Destination,
    /// The line that leads there, as logs name it: `ProxyPass "/ws2/"`.
    pub name: Arc<str>,
    /// What is asked for there: path and query, canonical, every byte visible. A member of a balancer is asked for this
    /// below its own path.
    pub target: String,
}

impl Router {
    /// Finds where a request goes, and changes its fields as the configuration says.
    ///
    /// Refused are: a path without a canonical form (400 or 404), a path where nothing is mapped (404; httpd would serve a
    /// file), a client that is not permitted and a target that may not go on the wire (403), and what a rule refuses.
    pub fn route(
        &self,
        head: &mut RequestHead,
        arrival: &Arrival<'_>,
        tell: &mut Tell<'_>,
    ) -> Decision<'_> {
        let mut arrival = *arrival;
        if let Some(remote_ip) = &self.remote_ip {
            let found = remote_ip.client(arrival.client, &head.headers);
            remote_ip.rewrite(&found, arrival.client, &mut head.headers);
            arrival.client = found.client;
            tell(format_args!(
                "client {}",
                arrival.client.ip().to_canonical()
            ));
        }
        let mut decision = Decision {
            client: arrival.client,
            settings: Cow::Borrowed(&self.settings),
            environment: Environment::default(),
            host: None,
            outcome: Err(Refusal::new(Id::NotMapped, "")),
        };
        self.edit(head, &arrival, &decision, edit::apply_early);
        let host = head.headers.first("Host");
        let facts = arrival.facts(&self.name.server_name, self.own_name(host, &arrival));
        let asking = Asking {
            head,
            facts: &facts,
            path: set_env::written_path(head).as_bytes(),
        };
        set_env::apply(&self.set_env_if, &asking, &mut decision.environment, tell);
        let found = self.find(head, &facts, &mut decision, tell);
        decision.outcome = found.and_then(|found| match &found {
            Found::Route(route) => outgoing(&route.target).map(|()| found),
            Found::Handler(_) => Ok(found),
        });
        decision.set_variables(tell);
        if matches!(decision.outcome, Ok(Found::Route(_))) {
            decision.host = self.edit(head, &arrival, &decision, edit::apply);
        }
        decision
    }

    /// What this host calls itself towards a client that has sent this `Host`.
    pub fn own_name<'a>(&'a self, host: Option<&'a [u8]>, arrival: &Arrival<'_>) -> OwnName<'a> {
        let (local, is_secure) = (arrival.local.port(), arrival.tls.is_some());
        self.name.towards(host, local, is_secure)
    }

    /// Changes the fields of a request. What its `Host` said until then, if anything may be changed.
    #[inline(never)]
    fn edit(
        &self,
        head: &mut RequestHead,
        arrival: &Arrival<'_>,
        decision: &Decision<'_>,
        apply: impl FnOnce(&[Arc<HeaderEdit>], &mut Headers, &Circumstances<'_>),
    ) -> Option<Vec<u8>> {
        let edits = decision.settings.request_edits.as_slice();
        if edits.is_empty() {
            return None;
        }
        // The name may be that in Host, which may be changed.
        let host = head.headers.first("Host").unwrap_or_default().to_vec();
        let own_name = self.own_name(Some(&host), arrival);
        let about = Circumstances {
            facts: arrival.facts(&self.name.server_name, own_name),
            environment: &decision.environment,
            received: arrival.received,
            took: arrival.took,
        };
        apply(edits, &mut head.headers, &about);
        Some(host)
    }

    /// Every backend that a request can be led to.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let all = self.destinations().flat_map(Destination::backends);
        all.map(AsRef::as_ref)
    }

    /// Everywhere that a request can be led to.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let mapped = self.mapped().map(|(_, to)| to);
        let led = self
            .rules
            .rules
            .iter()
            .filter_map(|rule| rule.destination());
        mapped.chain(led)
    }

    /// Where mappings lead to, by their names.
    fn mapped(&self) -> impl Iterator<Item = (&str, &Destination)> {
        let own = self
            .locations
            .iter()
            .filter_map(|location| location.mapping.as_ref());
        own.chain(&self.mappings)
            .filter_map(|mapping| match &mapping.action {
                Action::Proxy(proxy) => Some((&*mapping.name, &proxy.to)),
                Action::Exclude => None,
            })
    }

    /// Whether a line that logs name like this leads requests to the backend of this URL.
    pub fn leads(&self, name: &str, url: &BackendUrl) -> bool {
        let leads_there = |to: &Destination| to.backends().any(|backend| backend.url == *url);
        let rules = self.rules.rules.iter().filter(|rule| *rule.name == *name);
        self.mapped()
            .any(|(own, to)| *own == *name && leads_there(to))
            || rules.filter_map(|rule| rule.destination()).any(leads_there)
    }

    /// Whether any request could have its tunnel in a reactor.
    pub fn is_ever_asynchronous(&self) -> bool {
        let locations = self.locations.iter();
        let changes = locations
            .flat_map(|location| &location.changes)
            .chain(self.proxied.iter().flat_map(|section| &section.changes));
        self.settings.asynchronous
            || changes
                .into_iter()
                .any(|change| *change == Change::Asynchronous(true))
    }
}

/// The last look at a target before it becomes part of a request line. Encoding and head parsing leave nothing to find
/// today but in a query; whatever way of making targets comes later has to pass here as well (httpd since 2.4.56,
/// CVE-2023-25690).
///
/// No dot segment passes either. What the client wrote has none left, but a pattern can cut one out of `/v1../x`, and a
/// variable can hold one: the backend would end up elsewhere than the rules of access did.
// httpd: passes dot segments on.
fn outgoing(target: &str) -> Result<(), Refusal> {
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::new(
            Id::BadTarget,
            "the target for the backend holds a blank or a control character",
        ));
    }
    let path = target.split('?').next().unwrap_or_default();
    if !url::has_no_dot_segments(path) {
        return Err(Refusal::new(
            Id::BadTarget,
            "the path for the backend has a segment \".\" or \"..\", or a \"%\" that encodes nothing",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_with_a_blank_or_a_control_does_not_go_out() {
        for target in ["/a b", "/a\r\nX: y", "/\u{7f}", "/\0"] {
            assert_eq!(outgoing(target).unwrap_err().status, 403);
        }
        assert_eq!(outgoing("/a%20b"), Ok(()));
    }
}
