//! Certificates made on the spot: an authority, and what it vouches for.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate authority.
#[derive(Debug)]
pub struct Certs {
    authority: Identity,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Certs {
    pub fn new() -> Self {
        Self {
            authority: make("authority of the tests", Names::Authority, DAY, None),
        }
    }

    /// What `SSLProxyCACertificateFile` shall hold.
    pub fn pem(&self) -> Vec<u8> {
        self.authority.pem()
    }

    /// A certificate for a host name or an address.
    pub fn server(&self, name: &str) -> Identity {
        make(name, Names::of(name), DAY, Some(&self.authority))
    }

    /// A certificate that ended an hour ago.
    pub fn expired(&self, name: &str) -> Identity {
        let past = Duration::ZERO;
        make(name, Names::of(name), past, Some(&self.authority))
    }
}

impl Identity {
    /// A certificate that nobody but itself vouches for.
    pub fn self_signed(name: &str) -> Self {
        make(name, Names::of(name), DAY, None)
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// The key, as PKCS#8.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    /// A server's side of TLS with this certificate.
    pub fn acceptor(&self) -> SslAcceptor {
        self.acceptor_builder().build()
    }

    /// As [`Identity::acceptor`], but for tickets of sessions, behind which httpd does not find what comes with them.
    pub fn acceptor_without_tickets(&self) -> SslAcceptor {
        let mut acceptor = self.acceptor_builder();
        acceptor.set_num_tickets(0).unwrap();
        acceptor.build()
    }

    fn acceptor_builder(&self) -> SslAcceptorBuilder {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&self.certificate).unwrap();
        acceptor.set_private_key(&self.key).unwrap();
        acceptor
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Authority,
    Host,
    Address,
}

impl Names {
    fn of(name: &str) -> Self {
        if name.parse::<std::net::IpAddr>().is_ok() {
            Self::Address
        } else {
            Self::Host
        }
    }
}

/// Valid from two days ago to `ahead` less an hour from now.
fn make(name: &str, names: Names, ahead: Duration, issuer: Option<&Identity>) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = |time: Duration| Asn1Time::from_unix(time.as_secs().try_into().unwrap()).unwrap();

    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&at(now - 2 * DAY)).unwrap();
    builder
        .set_not_after(&at(now + ahead - Duration::from_secs(3600)))
        .unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    if names == Names::Authority {
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
        let usage = KeyUsage::new().critical().key_cert_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
    } else {
        let mut alternative = SubjectAlternativeName::new();
        match names {
            Names::Address => alternative.ip(name),
            _ => alternative.dns(name),
        };
        let issuing = issuer.map(|issuer| &*issuer.certificate);
        let alternative = alternative
            .build(&builder.x509v3_context(issuing, None))
            .unwrap();
        builder.append_extension(alternative).unwrap();
    }
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Identity {
        certificate: builder.build(),
        key,
    }
}
