//! Certificates made on the spot: an authority, and what it vouches for.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslContextBuilder, SslMethod, SslVersion};
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
            authority: Order::new("authority of the tests", Names::Authority).make(None),
        }
    }

    /// An authority that this one vouches for.
    pub fn below(&self) -> Self {
        let order = Order::new("authority in between", Names::Authority);
        Self {
            authority: order.make(Some(&self.authority)),
        }
    }

    /// What `SSLProxyCACertificateFile` shall hold.
    pub fn pem(&self) -> Vec<u8> {
        self.authority.pem()
    }

    pub fn certificate(&self) -> &X509 {
        &self.authority.certificate
    }

    /// A certificate for a host name or an address.
    pub fn server(&self, name: &str) -> Identity {
        Order::of(name).make(Some(&self.authority))
    }

    /// As [`Certs::server`], with a key for RSA.
    pub fn rsa_server(&self, name: &str) -> Identity {
        let mut order = Order::of(name);
        order.key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        order.make(Some(&self.authority))
    }

    /// A certificate for somebody with such a name, part by part.
    pub fn person(&self, subject: &[(&str, &str)]) -> Identity {
        let mut order = Order::of("nobody.example");
        order.subject = subject.to_vec();
        order.make(Some(&self.authority))
    }

    /// A certificate that ended an hour ago.
    pub fn expired(&self, name: &str) -> Identity {
        let mut order = Order::of(name);
        order.ahead = Duration::ZERO;
        order.make(Some(&self.authority))
    }
}

impl Identity {
    /// A certificate that nobody but itself vouches for.
    pub fn self_signed(name: &str) -> Self {
        Order::of(name).make(None)
    }

    /// Has clients of this show the certificate.
    pub fn show(&self, client: &mut SslContextBuilder) {
        client.set_certificate(&self.certificate).unwrap();
        client.set_private_key(&self.key).unwrap();
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

    /// As [`Identity::acceptor`], of this version alone.
    pub fn acceptor_of(&self, version: SslVersion) -> SslAcceptor {
        let mut acceptor = self.acceptor_builder();
        acceptor.set_min_proto_version(Some(version)).unwrap();
        acceptor.set_max_proto_version(Some(version)).unwrap();
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

/// What a certificate shall say.
struct Order<'a> {
    name: &'a str,
    names: Names,
    subject: Vec<(&'a str, &'a str)>,
    key: PKey<Private>,
    /// Valid from two days ago to this less an hour from now.
    ahead: Duration,
}

impl<'a> Order<'a> {
    fn new(name: &'a str, names: Names) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        Self {
            name,
            names,
            subject: vec![("CN", name)],
            key: PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap(),
            ahead: DAY,
        }
    }

    fn of(name: &'a str) -> Self {
        Self::new(name, Names::of(name))
    }

    fn make(self, issuer: Option<&Identity>) -> Identity {
        let Self {
            name, names, key, ..
        } = self;
        let mut subject = X509NameBuilder::new().unwrap();
        for (kind, value) in self.subject {
            subject.append_entry_by_text(kind, value).unwrap();
        }
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
        let end = now + self.ahead - Duration::from_secs(3600);
        builder.set_not_after(&at(end)).unwrap();
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
}
