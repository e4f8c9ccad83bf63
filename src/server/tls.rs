//! What speaks TLS, made at start: with the clients of a host, what has its certificates; with backends, one connector for
//! all that are to be spoken to in one way.

use crate::config::VirtualHost;
use crate::error_log;
use crate::ids::Id;
use crate::net::tls::{Client, Connector, Credential, Listening, TlsHost, Unfit, Validity};
use crate::route::backend::Backend;
use crate::route::destination::Destination;
use crate::tls::backend::Policy;
use log::warn;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
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

/// Where it is made.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    made: HashMap<Policy, Connector>,
    /// How long the certificates that were read are good for, and the lines that name them.
    pub(super) certificates: Vec<(String, Validity)>,
    noted: Noted,
}

impl Workshop {
    /// Reads a host's certificates and keys, where it speaks TLS with its clients.
    pub(super) fn tls_host(&mut self, host: &VirtualHost) -> Result<Option<TlsHost>, String> {
        let Some(tls) = &host.tls else {
            return Ok(None);
        };
        let credentials: Vec<Credential<'_>> = tls
            .certificates
            .iter()
            .map(|certificate| Credential {
                certificate: &certificate.file,
                key: &certificate.key,
            })
            .collect();
        let policy = &tls.policy;
        let client = policy.client.as_ref().map(|client| Client {
            is_required: client.is_required,
            depth: client.depth,
            authorities: &client.authorities,
        });
        let origin = match tls.certificates.first() {
            Some(certificate) => &certificate.origin,
            None => &host.origin,
        };
        let made = TlsHost::new(&Listening {
            credentials: &credentials,
            chain: tls.chain.as_ref(),
            protocols: policy.protocols,
            ciphers: policy.ciphers.as_deref(),
            suites: policy.suites.as_deref(),
            groups: policy.groups.as_deref(),
            prefers_own_order: policy.prefers_own_order,
            tickets: tls.tickets,
            client,
        })
        .map_err(|Unfit { line, problem }| match line {
            Some(line) => format!("{line}: {problem}"),
            None => format!("{origin}: TLS of {}: {problem}", host.server_name),
        })?;
        for (certificate, validity) in tls.certificates.iter().zip(made.validity()) {
            let line = certificate.origin.to_string();
            self.noted.note(line, validity, &mut self.certificates);
        }
        Ok(Some(made))
    }

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

    /// Logs until when the certificates are good.
    pub(super) fn say_validity(&self) {
        for (line, certificate) in &self.certificates {
            if certificate.is_short() {
                let id = Id::CertificateEnds;
                warn!("{id} {line}: {certificate}; {}", id.remedy());
            } else {
                error_log::notice(&format!("{line}: {certificate}"));
            }
        }
    }

    fn connector(&mut self, policy: Policy) -> Result<&Connector, String> {
        let unmade = match self.made.entry(policy) {
            Entry::Occupied(made) => return Ok(made.into_mut()),
            Entry::Vacant(unmade) => unmade,
        };
        let made = Connector::new(unmade.key())?;
        let made = unmade.insert(made);
        if let Some((named, validity)) = made.validity() {
            let line = named.line.clone();
            self.noted.note(line, validity, &mut self.certificates);
        }
        Ok(made)
    }
}

/// The lines and subjects of certificates: a line may hold for many hosts.
#[derive(Debug, Default)]
struct Noted(HashSet<(String, String)>);

impl Noted {
    fn note(
        &mut self,
        line: String,
        validity: &Validity,
        certificates: &mut Vec<(String, Validity)>,
    ) {
        if self.0.insert((line.clone(), validity.subject().to_owned())) {
            certificates.push((line, validity.clone()));
        }
    }
}
