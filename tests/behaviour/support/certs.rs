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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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
            authority: make(&Wish::named(&authority_name(), Names::Authority), None),
        }
    }

    /// An authority that this one vouches for.
    pub fn below(&self) -> Self {
        let name = authority_name();
        let wish = Wish::named(&name, Names::Authority);
        Self {
            authority: make(&wish, Some(&self.authority)),
        }
    }

    pub fn authority(&self) -> &Identity {
        &self.authority
    }

    /// What `SSLProxyCACertificateFile` shall hold.
    pub fn pem(&self) -> Vec<u8> {
        self.authority.pem()
    }

    /// A certificate for a host name or an address.
    pub fn server(&self, name: &str) -> Identity {
        make(&Wish::of(name), Some(&self.authority))
    }

    /// A certificate that ended an hour ago.
    pub fn expired(&self, name: &str) -> Identity {
        let wish = Wish {
            days: -2..=0,
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }

    /// A certificate that is good for so many days more, up to 127, and not quite for one more.
    pub fn lasting(&self, name: &str, days: i8) -> Identity {
        let wish = Wish {
            days: -2..=days,
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }

    /// A certificate that is good from tomorrow on.
    pub fn not_yet(&self, name: &str) -> Identity {
        let wish = Wish {
            days: 1..=2,
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }

    /// A certificate with a key of RSA with 1024 bits.
    pub fn weak(&self, name: &str) -> Identity {
        let wish = Wish {
            bits_of_rsa: Some(1024),
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }

    /// As [`Certs::server`], with a key of RSA.
    pub fn rsa_server(&self, name: &str) -> Identity {
        let wish = Wish {
            bits_of_rsa: Some(2048),
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }

    /// A certificate with this name of its owner, part by part.
    pub fn person(&self, subject: &[(&str, &str)]) -> Identity {
        let wish = Wish {
            subject: subject.to_vec(),
            ..Wish::of("nobody.example")
        };
        make(&wish, Some(&self.authority))
    }

    /// A certificate with this common name, and for this name or address.
    pub fn called(&self, common: &str, name: &str) -> Identity {
        let wish = Wish {
            subject: vec![("CN", common)],
            ..Wish::of(name)
        };
        make(&wish, Some(&self.authority))
    }
}

impl Identity {
    /// A certificate that nobody but itself vouches for.
    pub fn self_signed(name: &str) -> Self {
        make(&Wish::of(name), None)
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// The key, as PKCS#8.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    /// Has clients of this show the certificate.
    pub fn show(&self, client: &mut SslContextBuilder) {
        client.set_certificate(&self.certificate).unwrap();
        client.set_private_key(&self.key).unwrap();
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

    /// The key as a program would write it that knows no PKCS#8: SEC1, or PKCS#1.
    pub fn old_key_pem(&self) -> Vec<u8> {
        match self.key.rsa() {
            Ok(rsa) => rsa.private_key_to_pem().unwrap(),
            Err(_) => self.key.ec_key().unwrap().private_key_to_pem().unwrap(),
        }
    }

    /// The name under which OpenSSL looks for it in a folder.
    pub fn hashed_name(&self) -> String {
        format!("{:08x}.0", self.certificate.subject_name_hash())
    }

    pub fn certificate(&self) -> &X509 {
        &self.certificate
    }

    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    /// For an [`acceptor`](Self::acceptor) that is not quite like that.
    pub fn acceptor_builder(&self) -> SslAcceptorBuilder {
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

/// One that no other has: who vouches for a certificate is found by the name.
fn authority_name() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("authority {number} of the tests")
}

/// What a certificate shall be.
struct Wish<'a> {
    /// What its name says of its owner.
    subject: Vec<(&'a str, &'a str)>,
    name: &'a str,
    names: Names,
    /// From when to when, counted from an hour ago.
    days: std::ops::RangeInclusive<i8>,
    /// Else the key is one of P-256.
    bits_of_rsa: Option<u32>,
}

impl<'a> Wish<'a> {
    fn of(name: &'a str) -> Self {
        Self::named(name, Names::of(name))
    }

    fn named(name: &'a str, names: Names) -> Self {
        Self {
            subject: vec![("CN", name)],
            name,
            names,
            days: -2..=1,
            bits_of_rsa: None,
        }
    }

    fn key(&self) -> PKey<Private> {
        match self.bits_of_rsa {
            Some(bits) => PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap(),
            None => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
                PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
            }
        }
    }
}

fn make(wish: &Wish<'_>, issuer: Option<&Identity>) -> Identity {
    let key = wish.key();
    let mut subject = X509NameBuilder::new().unwrap();
    for (kind, value) in &wish.subject {
        subject.append_entry_by_text(kind, value).unwrap();
    }
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour_ago = i64::try_from(now.as_secs()).unwrap() - 3600;
    let at = |days: &i8| Asn1Time::from_unix(hour_ago + i64::from(*days) * 86_400).unwrap();

    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&at(wish.days.start())).unwrap();
    builder.set_not_after(&at(wish.days.end())).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    if wish.names == Names::Authority {
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
        let usage = KeyUsage::new().critical().key_cert_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
    } else {
        let mut alternative = SubjectAlternativeName::new();
        match wish.names {
            Names::Address => alternative.ip(wish.name),
            _ => alternative.dns(wish.name),
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
