//! Sessions with backends, kept so that the next handshake with each is short.

use crate::sys::Resumable;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContextBuilder, SslRef, SslSessionCacheMode};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How many are kept of one backend: many give two with each handshake.
const OF_ONE: usize = 4;
/// How many are kept in all. Names can be chosen by clients, so there may be any number of them.
const OF_ALL: usize = 256;
/// How long one is good. No certificate is looked at when a session goes on, so that one that has ended would count on.
const LIFE: Duration = Duration::from_secs(600);

/// Whom a connection is with.
static PEER: OnceLock<Index<Ssl, Arc<str>>> = OnceLock::new();

fn peer_index() -> Result<Index<Ssl, Arc<str>>, ErrorStack> {
    match PEER.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*PEER.get_or_init(|| index))
        }
    }
}

/// The sessions of one context.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The oldest first.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    peer: Arc<str>,
    session: Resumable,
    until: Instant,
}

impl Sessions {
    /// Keeps from now on what the peers of a context give.
    pub(super) fn of(builder: &mut SslContextBuilder) -> Result<Arc<Self>, ErrorStack> {
        let sessions = Arc::new(Self::default());
        Resumable::prepare(builder)?;
        let index = peer_index()?;
        builder
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        let keeper = Arc::clone(&sessions);
        // In TLS 1.3 they come behind the handshake, while the tunnel runs.
        builder.set_new_session_callback(move |ssl, _| {
            if let (Some(peer), Some(session)) = (ssl.ex_data(index), Resumable::of(ssl)) {
                keeper.put(peer, session, Instant::now());
            }
        });
        Ok(sessions)
    }

    /// Has `ssl` offer the last one that `peer` has given. `peer` is who the connection is with and what it is held to.
    pub(super) fn offer(&self, ssl: &mut SslRef, peer: &Arc<str>) -> Result<(), ErrorStack> {
        ssl.set_ex_data(peer_index()?, Arc::clone(peer));
        if let Some(session) = self.take(peer, Instant::now()) {
            session.offer(ssl);
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        // What is done under the lock cannot leave it half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, peer: &str, now: Instant) -> Option<Resumable> {
        let mut kept = self.kept();
        kept.retain(|kept| kept.until > now);
        let place = kept.iter().rposition(|kept| &*kept.peer == peer)?;
        let session = &kept.get(place)?.session;
        if session.is_for_once() {
            return Some(kept.remove(place).session);
        }
        Some(session.clone())
    }

    fn put(&self, peer: &Arc<str>, session: Resumable, now: Instant) {
        let mut kept = self.kept();
        kept.retain(|kept| kept.until > now);
        let of_peer = kept.iter().filter(|kept| kept.peer == *peer).count();
        if of_peer >= OF_ONE {
            let oldest = kept.iter().position(|kept| kept.peer == *peer);
            oldest.map(|oldest| kept.remove(oldest));
        } else if kept.len() >= OF_ALL {
            kept.remove(0);
        }
        kept.push(Kept {
            peer: Arc::clone(peer),
            session,
            until: now + LIFE,
        });
    }

    /// Forgets what `peer` has given: a handshake has failed.
    pub(super) fn forget(&self, peer: &str) {
        self.kept().retain(|kept| &*kept.peer != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::ssl::{SslAcceptor, SslContext, SslMethod, SslStream, SslVersion};
    use openssl::x509::X509;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn acceptor(version: SslVersion) -> SslAcceptor {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        certificate.set_pubkey(&key).unwrap();
        let [today, tomorrow] = [0, 1].map(|days| Asn1Time::days_from_now(days).unwrap());
        certificate.set_not_before(&today).unwrap();
        certificate.set_not_after(&tomorrow).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&certificate.build()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_max_proto_version(Some(version)).unwrap();
        acceptor.build()
    }

    /// A context that takes every certificate, and its sessions.
    fn context() -> (SslContext, Arc<Sessions>) {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        let sessions = Sessions::of(&mut builder).unwrap();
        (builder.build(), sessions)
    }

    /// A connection with `peer`, up to the first byte from it. Says whether a session went on.
    fn connect(
        context: &SslContext,
        sessions: &Sessions,
        acceptor: &SslAcceptor,
        peer: &str,
    ) -> bool {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ssl = Ssl::new(context).unwrap();
        sessions.offer(&mut ssl, &peer.into()).unwrap();
        let acceptor = acceptor.clone();
        let server = std::thread::spawn(move || {
            let mut stream = acceptor.accept(theirs).unwrap();
            stream.write_all(b"x").unwrap();
            stream
        });
        let mut stream = SslStream::new(ssl, ours).unwrap();
        stream.connect().unwrap();
        stream.read_exact(&mut [0]).unwrap();
        // A session whose connection ends without it cannot go on (RFC 5246, section 7.2.1).
        stream.shutdown().unwrap();
        drop(server.join().unwrap());
        stream.ssl().session_reused()
    }

    #[test]
    fn a_session_of_tls_1_3_goes_on_once_and_one_of_tls_1_2_again_and_again() {
        let (context, sessions) = context();
        let one = acceptor(SslVersion::TLS1_3);
        assert!(!connect(&context, &sessions, &one, "one"));
        let now = Instant::now();
        assert!(sessions.take("other", now).is_none());
        let both = [sessions.take("one", now), sessions.take("one", now)];
        assert!(both.iter().flatten().all(Resumable::is_for_once));
        assert_eq!(both.iter().flatten().count(), 2);
        assert!(sessions.take("one", now).is_none());

        let old = acceptor(SslVersion::TLS1_2);
        assert!(!connect(&context, &sessions, &old, "old"));
        for _ in 0..3 {
            assert!(connect(&context, &sessions, &old, "old"));
        }
        sessions.forget("old");
        assert!(!connect(&context, &sessions, &old, "old"));
    }

    #[test]
    fn a_session_is_offered_in_its_own_context_alone() {
        let ((one, sessions), (other, _)) = (context(), context());
        let acceptor = acceptor(SslVersion::TLS1_3);
        connect(&one, &sessions, &acceptor, "peer");
        let session = sessions.take("peer", Instant::now()).unwrap();
        assert!(!session.offer(&mut Ssl::new(&other).unwrap()));
        assert!(session.offer(&mut Ssl::new(&one).unwrap()));
        let unprepared = SslContext::builder(SslMethod::tls_client())
            .unwrap()
            .build();
        assert!(!session.offer(&mut Ssl::new(&unprepared).unwrap()));
    }

    #[test]
    fn sessions_are_bounded_in_number_and_in_time() {
        let (context, sessions) = context();
        connect(&context, &sessions, &acceptor(SslVersion::TLS1_2), "first");
        let now = Instant::now();
        let session = sessions.take("first", now).unwrap();
        let count = |peer: &str| {
            let kept = sessions.kept();
            kept.iter().filter(|kept| &*kept.peer == peer).count()
        };
        let put = |peer: &str, at| sessions.put(&peer.into(), session.clone(), at);
        for _ in 0..2 * OF_ONE {
            put("first", now);
        }
        assert_eq!(count("first"), OF_ONE);
        for number in 0..2 * OF_ALL {
            put(&number.to_string(), now);
        }
        assert_eq!(sessions.kept().len(), OF_ALL);
        assert_eq!([count("first"), count("0")], [0, 0]);
        let last = (2 * OF_ALL - 1).to_string();
        assert_eq!(count(&last), 1);
        assert!(sessions.take(&last, now + LIFE).is_none());
        assert_eq!(sessions.kept().len(), 0);
        put("late", now + LIFE);
        assert!(sessions.take("late", now + LIFE).is_some());
    }
}
