//! TLS towards clients: what a host shows, and what it asks for. httpd: mod_ssl.
//!
//! Files are looked at for a first time here, so that `-t` finds what is missing; what their content is worth is judged by
//! the library at start.

pub(super) mod files;
mod hosts;
pub(super) mod lines;

pub(super) use hosts::resolve;
pub(super) use lines::Draft;

use super::Origin;
use crate::tls::{Named, Protocols};

/// How a host speaks TLS with its clients. httpd: `SSLEngine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// `SSLCertificateFile`, `SSLCertificateKeyFile`: at least one.
    pub certificates: Vec<Certificate>,
    /// `SSLCertificateChainFile`
    pub chain: Option<Named>,
    /// What clients can rely on.
    pub policy: TlsPolicy,
    /// `SSLSessionTickets`
    pub tickets: bool,
    /// `SSLStrictSNIVHostCheck`, in the first host of an address: clients that name no host are refused.
    pub is_strict: bool,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// With those that lead to its authority.
    pub file: Named,
    /// May be the same.
    pub key: Named,
    /// The line of the certificate.
    pub origin: Origin,
}

/// What may be different from host to host of one address, though a client that has been let in by the one must not reach
/// the other with it. httpd: `ssl_server_compatible`, and what `SSLVHostSNIPolicy secure` compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// `SSLProtocol`
    pub protocols: Protocols,
    /// `SSLCipherSuite`, for TLS up to 1.2; unset: as the library has it.
    pub ciphers: Option<String>,
    /// `SSLCipherSuite TLSv1.3`; unset: as the library has it.
    pub suites: Option<String>,
    /// `SSLOpenSSLConfCmd Groups`; unset: as the library has it.
    pub groups: Option<String>,
    /// `SSLHonorCipherOrder`
    pub prefers_own_order: bool,
    /// `SSLVerifyClient`, unless it is `none`.
    pub client: Option<ClientCertificates>,
}

/// Whose certificates clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificates {
    /// `require`, and not `optional`.
    pub is_required: bool,
    /// `SSLVerifyDepth`, which counts the authority as well: how many certificates may stand between it and theirs.
    pub depth: u32,
    /// `SSLCACertificateFile`
    pub authorities: Named,
}
