//! TLS with a client, before its first request.

use super::{End, Visit};
use crate::config::TlsPolicy;
use crate::http::answer::Refusal;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::stream::Stream;
use crate::net::tls::{TlsError, TlsHost};
use crate::net::wait::Interrupted;
use crate::server::Site;
use crate::tls::Session;
use crate::tls::hello::{Opening, opening};
use log::Level;
use std::sync::Arc;
use std::time::Instant;

/// How a client's connection is secured.
pub(super) struct Secured {
    /// The host whose certificate the client has seen, and whose terms it has met.
    site: Arc<Site>,
    pub(super) session: Session,
}

impl Visit<'_> {
    /// Secures a new connection. When the time of the request behind it begins: where there is no TLS, it has `began`.
    pub(super) fn secure_first(
        &mut self,
        buffer: &mut Buffer,
        began: Instant,
    ) -> Result<Instant, End> {
        if self.link.served > 0 || self.site.host.tls.is_none() {
            return Ok(began);
        }
        if let Err(end) = self.secure(buffer) {
            // What is no request is not logged as one.
            if !matches!(end, End::Refused(_)) {
                buffer.take();
            }
            return Err(end);
        }
        Ok(Instant::now())
    }

    /// Makes the handshake, where the first host of the address speaks TLS. The name in the first bytes of the client
    /// chooses the host whose certificate it sees.
    #[inline(never)]
    pub(super) fn secure(&mut self, buffer: &mut Buffer) -> Result<(), End> {
        let first = self.site;
        let Some(terms) = &first.host.tls else {
            return Ok(());
        };
        // What it has waited for a worker is not the client's fault.
        let began = Instant::now();
        let allowed = first.host.handshake_timeout;
        let name = loop {
            match opening(buffer.bytes()) {
                Opening::Hello { name } => break name,
                Opening::Unclear => {
                    let deadline = allowed
                        .allowed(buffer.bytes().len())
                        .map(|time| began + time);
                    match buffer.receive(&mut self.link.client, deadline, self.tools.waiter) {
                        Ok(0) => return Err(End::Gone("closed before TLS had begun".to_owned())),
                        Ok(_) => {}
                        Err(Interrupted::Deadline) => return Err(self.not_secured(&too_late())),
                        Err(why) => return Err(End::Gone(why.to_string())),
                    }
                }
                Opening::Http => {
                    let why = "plain HTTP, where TLS is spoken";
                    return Err(Refusal::new(Id::PlainHttp, why).into());
                }
                Opening::Other => return Err(End::Gone("neither TLS nor HTTP".to_owned())),
            }
        };
        if name.is_none() && terms.is_strict {
            let why = "no host was named in TLS, and SSLStrictSNIVHostCheck is On";
            return Err(self.not_secured(&why));
        }
        let asked = name.as_ref().map(|name| name.as_bytes());
        let named = self.generation.site_for(self.transaction.local, asked);
        let (site, tls_host) = match (&named.tls_host, &first.tls_host) {
            (Some(tls_host), _) => (named, tls_host),
            (None, Some(tls_host)) => (first, tls_host),
            (None, None) => return Err(End::Gone("no host of this address has TLS".to_owned())),
        };
        let socket = self.link.client.plain_clone();
        let socket = socket.map_err(|why| End::Gone(why.to_string()))?;
        let used = buffer.take();
        self.transaction.bytes_in = 0;
        let deadline = allowed.allowed(used.len()).map(|time| began + time);
        let stream = tls_host.accept(socket, used, deadline, self.tools.waiter);
        let stream = stream.map_err(|why| match why {
            TlsError::Interrupted(Interrupted::Deadline) => self.not_secured(&too_late()),
            TlsError::Interrupted(why) => End::Gone(why.to_string()),
            TlsError::Handshake(why) => self.not_secured(&why),
        })?;
        let Stream::Tls(tls) = &stream else {
            return Err(End::Gone("no TLS".to_owned()));
        };
        let session = Session::new(|variable| match variable {
            // The one that counts: what a second hello may ask for has chosen nothing.
            "SSL_TLS_SNI" => name.clone(),
            _ => tls.variable(variable),
        });
        self.debug(
            Topic::Tls,
            format_args!(
                "TLS: {} {}",
                session.get("SSL_PROTOCOL").unwrap_or_default(),
                session.get("SSL_CIPHER").unwrap_or_default()
            ),
        );
        let site = Arc::clone(site);
        self.link.secured = Some(Secured { site, session });
        self.link.client = stream;
        Ok(())
    }

    /// Keeps of its TLS what an access log looks at.
    pub(super) fn note_tls(&mut self) {
        if let Some(secured) = &self.link.secured {
            let logs = &self.site.logs.access;
            let is_logged = |name: &str| logs.iter().any(|log| log.needs_tls(name));
            let session = secured.session.only(is_logged);
            if session != Session::default() {
                self.transaction.note().tls = session;
            }
        }
    }

    /// The client gets what the library has to say, and is waited for so that it can read it.
    fn not_secured(&self, why: &dyn std::fmt::Display) -> End {
        let id = Id::ClientTls;
        self.log(
            Topic::Tls,
            Level::Info,
            format_args!("{id} no TLS with the client: {why}; {}", id.remedy()),
        );
        End::Unsecured
    }

    /// Whether the terms of the host that a request names are those that its connection has met: who was let in by one host
    /// may not be welcome at the other (CVE-2025-23048). RFC 9110 section 15.5.20.
    pub(super) fn check_terms(&self) -> Result<(), Refusal> {
        let met = self.link.secured.as_ref().map(|secured| &secured.site);
        let site = self.site;
        if met.is_some_and(|met| Arc::ptr_eq(met, site)) {
            return Ok(());
        }
        if met.map_or((None, None), terms) == terms(site) {
            return Ok(());
        }
        let name = &site.host.server_name;
        let why = format!("the connection was not made on the terms of the host {name}");
        Err(Refusal::new(Id::Misdirected, why))
    }

    /// Whether the connection was made before a reload, and is not what its client would get now: who goes on to use it
    /// might hear of nothing but 421.
    pub(super) fn is_outdated(&self) -> bool {
        match &self.link.secured {
            Some(Secured { site: met, .. }) => {
                !self.generation.sites().any(|site| Arc::ptr_eq(site, met))
            }
            None => {
                let first = self.generation.site_for(self.transaction.local, None);
                first.host.tls.is_some()
            }
        }
    }
}

/// What a connection is held to. A file of authorities may have other content since a reload: whom the old ones have vouched
/// for, the new ones need not know.
fn terms(site: &Arc<Site>) -> (Option<&TlsPolicy>, Option<&[u8; 32]>) {
    let policy = site.host.tls.as_ref().map(|tls| &tls.policy);
    let authorities = site.tls_host.as_ref().and_then(TlsHost::authorities);
    (policy, authorities)
}

fn too_late() -> &'static str {
    "it took longer than RequestReadTimeout allows"
}
