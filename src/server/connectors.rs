//! What speaks TLS with backends: all that is to be spoken to in one way, by one connector, which is made at start.

use super::say_validity;
use crate::config::VirtualHost;
use crate::net::tls::Connector;
use crate::route::backend::Backend;
use crate::route::destination::Destination;
use crate::tls::backend::Policy;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Those of one host, by the address of the backend. Backends of the configuration live as long as the server.
#[derive(Debug, Default)]
pub(super) struct Connectors(HashMap<usize, Connector>);

impl Connectors {
    /// The one for a backend, where that speaks TLS.
    pub(super) fn of(&self, backend: &Backend) -> Option<&Connector> {
        self.0.get(&address(backend))
    }
}

fn address(backend: &Backend) -> usize {
    std::ptr::from_ref(backend).addr()
}

/// Where connectors are made.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    made: HashMap<Policy, Connector>,
}

impl Workshop {
    /// Makes what a host needs for each backend that it leads requests to or whose health it looks after.
    pub(super) fn of(&mut self, host: &VirtualHost) -> Result<Connectors, String> {
        let mut connectors = Connectors::default();
        let mut take = |backend: &Arc<Backend>, policy: &dyn Fn() -> Policy| {
            if backend.url.scheme.is_tls() {
                let connector = self.connector(policy())?;
                connectors.0.insert(address(backend), connector.clone());
            }
            Ok::<(), String>(())
        };
        for to in host.router.destinations() {
            if let Destination::Backend(backend) = to {
                take(backend, &|| host.tls_policy(backend))?;
            }
        }
        let led = host.router.destinations().filter_map(|to| match to {
            Destination::Balancer { balancer, .. } => Some(balancer),
            Destination::Backend(_) => None,
        });
        for balancer in led.chain(&host.balancers) {
            for member in balancer.members() {
                take(&member.backend, &|| host.balancer_tls_policy(balancer))?;
            }
        }
        Ok(connectors)
    }

    fn connector(&mut self, policy: Policy) -> Result<&Connector, String> {
        let unmade = match self.made.entry(policy) {
            Entry::Occupied(made) => return Ok(made.into_mut()),
            Entry::Vacant(unmade) => unmade,
        };
        let made = Connector::new(unmade.key())?;
        let made = unmade.insert(made);
        if let Some((named, validity)) = made.validity() {
            say_validity(&named.line, validity);
        }
        Ok(made)
    }
}
