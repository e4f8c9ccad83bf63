//! TLS towards clients.

use super::material::{self, Validity, named, unfit};
use super::observed::Observed;
use super::session::{self, Side, shake_hands};
use super::{Client, Listening, TlsError, TlsStream, Unfit};
use crate::net::stream::{Socket, Stream};
use crate::net::wait::Waiter;
use crate::tls::{Protocols, Version};
use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use std::time::Instant;

/// The only protocol that is spoken inside (RFC 7301), as the library lists it.
const HTTP_1_1: &[u8] = b"\x08http/1.1";

/// Makes TLS connections with clients by one policy, with tickets that no other policy takes.
#[derive(Clone)]
pub struct TlsHost {
    context: SslContext,
    validity: Vec<Validity>,
    authorities: Option<[u8; 32]>,
}

impl std::fmt::Debug for TlsHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsHost")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl TlsHost {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn new(listening: &Listening<'_>) -> Result<Self, Unfit> {
        let in_words = |error: ErrorStack| format!("cannot set up TLS: {error}");
        let mut builder = SslContextBuilder::new(SslMethod::tls_server()).map_err(in_words)?;
        builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
        // What was refused for want of room is written again from another place, and an idle connection holds no buffers.
        builder.set_mode(
            SslMode::AUTO_RETRY
                | SslMode::ACCEPT_MOVING_WRITE_BUFFER
                | SslMode::ENABLE_PARTIAL_WRITE
                | SslMode::RELEASE_BUFFERS,
        );
        if listening.prefers_own_order {
            builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        }
        if !listening.tickets {
            builder.set_options(SslOptions::NO_TICKET);
            builder.set_num_tickets(0).map_err(in_words)?;
        }
        // Sessions live in tickets alone, so that they take no memory here.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        // The keys of tickets are the context's own, so no other one ever takes a session of this.
        builder
            .set_session_id_context(b"proxy-wstunnel")
            .map_err(in_words)?;
        protocols(&mut builder, listening.protocols).map_err(in_words)?;
        ciphers(&mut builder, listening.ciphers, listening.suites)?;
        if let Some(groups) = listening.groups {
            let wrong = |_| format!("\"{groups}\" names a group that OpenSSL does not have");
            builder.set_groups_list(groups).map_err(wrong)?;
        }
        builder.set_alpn_select_callback(|_, offered| {
            openssl::ssl::select_next_proto(HTTP_1_1, offered).ok_or(AlpnError::NOACK)
        });
        let mut validity = Vec::new();
        let mut kinds: Vec<&str> = Vec::new();
        for credential in listening.credentials {
            let material = credential.read()?;
            if kinds.contains(&material.kind()) {
                let problem = format!(
                    "there are two certificates with keys of the kind {}; expected one of each kind",
                    material.kind()
                );
                return Err(unfit(credential.certificate, problem));
            }
            kinds.push(material.kind());
            let file = credential.certificate.path.display();
            let refused = |problem| unfit(credential.certificate, problem);
            // Not by what has been read: only so has each certificate a chain of its own.
            builder
                .set_certificate_chain_file(&credential.certificate.path)
                .map_err(|error| {
                    format!(
                        "{file}: the certificate is not accepted: {}",
                        reasons(&error)
                    )
                })
                .map_err(refused)?;
            builder
                .set_private_key(&material.key)
                .and_then(|()| builder.check_private_key())
                .map_err(|error| format!("{file}: its key is not accepted: {}", reasons(&error)))
                .map_err(refused)?;
            validity.push(material.validity());
        }
        // For those that have none in their own file.
        for above in listening.chain.map(named).transpose()?.unwrap_or_default() {
            builder.add_extra_chain_cert(above).map_err(in_words)?;
        }
        let authorities = clients(&mut builder, listening.client.as_ref())?;
        Ok(Self {
            context: builder.build(),
            validity,
            authorities,
        })
    }

    /// How long its certificates are good for, in their order.
    pub fn validity(&self) -> &[Validity] {
        &self.validity
    }

    /// What tells the authorities of its clients from others, whichever file they were read from; none: clients are not
    /// asked for certificates.
    pub fn authorities(&self) -> Option<&[u8; 32]> {
        self.authorities.as_ref()
    }

    /// Speaks TLS over `socket` with a client that has sent the bytes `first` already.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn accept(
        &self,
        socket: Socket,
        first: Vec<u8>,
        deadline: Option<Instant>,
        waiter: &mut Waiter,
    ) -> Result<Stream, TlsError> {
        let ssl =
            Ssl::new(&self.context).map_err(|error| TlsError::Handshake(error.to_string()))?;
        let socket = Observed::new(socket, first);
        shake_hands(ssl, Side::Server, socket, deadline, waiter)
    }
}

fn reasons(error: &ErrorStack) -> String {
    session::in_words(Some(error), None, "")
}

pub(super) fn protocols(
    builder: &mut SslContextBuilder,
    Protocols { least, most }: Protocols,
) -> Result<(), ErrorStack> {
    let version = |version| match version {
        Version::Tls10 => SslVersion::TLS1,
        Version::Tls11 => SslVersion::TLS1_1,
        Version::Tls12 => SslVersion::TLS1_2,
        Version::Tls13 => SslVersion::TLS1_3,
    };
    builder.set_min_proto_version(Some(version(least)))?;
    builder.set_max_proto_version(Some(version(most)))
}

/// `list` is for TLS up to 1.2, `suites` for TLS 1.3.
pub(super) fn ciphers(
    builder: &mut SslContextBuilder,
    list: Option<&str>,
    suites: Option<&str>,
) -> Result<(), String> {
    let wrong = |text: &str| {
        format!("\"{text}\" names no cipher that OpenSSL has; \"openssl ciphers -v\" lists them")
    };
    if let Some(list) = list {
        builder.set_cipher_list(list).map_err(|_| wrong(list))?;
    }
    if let Some(suites) = suites {
        builder
            .set_ciphersuites(suites)
            .map_err(|_| wrong(suites))?;
    }
    Ok(())
}

/// Whose certificates are asked for. What tells them from others, as [`TlsHost::authorities`].
fn clients(
    builder: &mut SslContextBuilder,
    client: Option<&Client<'_>>,
) -> Result<Option<[u8; 32]>, Unfit> {
    let Some(client) = client else {
        builder.set_verify(SslVerifyMode::NONE);
        return Ok(None);
    };
    let in_words = |error: ErrorStack| {
        let problem = format!("the authorities of clients: {}", reasons(&error));
        unfit(client.authorities, problem)
    };
    let authorities = named(client.authorities)?;
    let each = authorities.iter().map(|authority| authority.to_der());
    let mut each = each.collect::<Result<Vec<_>, _>>().map_err(in_words)?;
    // Neither their order nor how often they stand there makes a difference.
    each.sort_unstable();
    each.dedup();
    let known_by = sha256(&each.concat());
    let mut store = X509StoreBuilder::new().map_err(in_words)?;
    let mut names = openssl::stack::Stack::new().map_err(in_words)?;
    for authority in authorities {
        let name = authority.subject_name().to_owned().map_err(in_words)?;
        names.push(name).map_err(in_words)?;
        store.add_cert(authority).map_err(in_words)?;
    }
    builder
        .set_verify_cert_store(store.build())
        .map_err(in_words)?;
    builder.set_client_ca_list(names);
    builder.set_verify_depth(client.depth);
    builder.set_verify(if client.is_required {
        SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT
    } else {
        SslVerifyMode::PEER
    });
    Ok(Some(known_by))
}

impl TlsStream {
    /// What is known of the session under one of httpd's names, such as `SSL_PROTOCOL`; nothing, where there is nothing or
    /// the name is not one of those. Source: httpd mod_ssl, Environment Variables.
    pub fn variable(&self, name: &str) -> Option<String> {
        let ssl = self.ssl()?;
        let cipher = || ssl.current_cipher();
        let client = || ssl.peer_certificate();
        let text = match name {
            "HTTPS" => "on".to_owned(),
            "SSL_PROTOCOL" => ssl.version_str().to_owned(),
            "SSL_CIPHER" => cipher()?.name().to_owned(),
            "SSL_CIPHER_USEKEYSIZE" => cipher()?.bits().secret.to_string(),
            "SSL_CIPHER_ALGKEYSIZE" => cipher()?.bits().algorithm.to_string(),
            "SSL_SESSION_RESUMED" if ssl.session_reused() => "Resumed".to_owned(),
            "SSL_SESSION_RESUMED" => "Initial".to_owned(),
            "SSL_CLIENT_VERIFY" => match (client(), ssl.verify_result().as_raw()) {
                (None, _) => "NONE".to_owned(),
                (Some(_), 0) => "SUCCESS".to_owned(),
                (Some(_), _) => format!("FAILED:{}", ssl.verify_result().error_string()),
            },
            "SSL_CLIENT_S_DN" => material::subject(&client()?),
            "SSL_CLIENT_I_DN" => material::name(client()?.issuer_name()),
            "SSL_CLIENT_M_SERIAL" => {
                let serial = client()?.serial_number().to_bn().ok()?;
                serial.to_hex_str().ok()?.to_string()
            }
            "SSL_CLIENT_CERT" => {
                let pem = client()?.to_pem().ok()?;
                // One line, as headers and logs have them.
                String::from_utf8(pem).ok()?.trim_end().replace('\n', " ")
            }
            "SSL_CLIENT_V_START" => client()?.not_before().to_string(),
            "SSL_CLIENT_V_END" => client()?.not_after().to_string(),
            _ => {
                let client = client()?;
                let (name, part) = match (
                    name.strip_prefix("SSL_CLIENT_S_DN_"),
                    name.strip_prefix("SSL_CLIENT_I_DN_"),
                ) {
                    (Some(part), _) => (client.subject_name(), part),
                    (None, Some(part)) => (client.issuer_name(), part),
                    (None, None) => return None,
                };
                material::part_of(name, part)?
            }
        };
        Some(text)
    }
}
