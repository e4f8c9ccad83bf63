//! The socket of the system's collector of logs, syslog(3).

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a collector may leave its queue full. Other logs wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long none is asked again that could not be reached or did not take a line.
const PAUSE: Duration = Duration::from_secs(1);
/// What a line may have; what is longer is cut. Collectors take 8 KiB by default.
const LONGEST: usize = 8000;

/// A connection to a collector, which comes and goes as it likes.
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Until when none is looked for.
    rests_until: Option<Instant>,
}

impl Syslog {
    pub(super) fn new(path: &Path) -> Self {
        let mut syslog = Self {
            path: path.to_owned(),
            socket: None,
            rests_until: None,
        };
        // It may come later.
        let _ = syslog.connect();
        syslog
    }

    fn connect(&mut self) -> io::Result<&UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(self.socket.insert(socket))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Why nobody has taken it. Who has not is left alone for a while.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(ErrorKind::NotConnected.into());
        }
        let message = message.get(..LONGEST).unwrap_or(message);
        let outcome = match &self.socket {
            Some(socket) => socket.send(message),
            None => Err(ErrorKind::NotConnected.into()),
        };
        let outcome = match outcome {
            // Its queue is full; another connection would end there as well.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            // It was started anew since, and has another socket of the same name.
            Err(_) => self.connect().and_then(|socket| socket.send(message)),
            sent => sent,
        };
        match outcome {
            Ok(_) => {
                self.rests_until = None;
                Ok(())
            }
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    self.socket = None;
                }
                self.rests_until = Some(Instant::now() + PAUSE);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let name = format!("proxy-wstunnel-{}-{name}", std::process::id());
        std::env::temp_dir().join(name)
    }

    fn received(collector: &UnixDatagram) -> Vec<u8> {
        let mut buffer = vec![0; 16 * 1024];
        let length = collector.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn a_collector_that_comes_late_or_is_started_anew_is_found() {
        let path = path("comes-and-goes");
        let mut syslog = Syslog::new(&path);
        assert!(syslog.send(b"nobody").is_err());
        for round in 0..2 {
            let collector = UnixDatagram::bind(&path).unwrap();
            // In the first round it is left alone for a while.
            syslog.rests_until = None;
            syslog.send(format!("<13>{round}").as_bytes()).unwrap();
            assert_eq!(received(&collector), format!("<13>{round}").as_bytes());
            drop(collector);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_collector_that_takes_nothing_costs_a_moment_and_then_nothing() {
        let path = path("sleeps");
        let collector = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        let began = Instant::now();
        while syslog.send(b"a line").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        let began = Instant::now();
        for _ in 0..10_000 {
            assert!(syslog.send(b"a line").is_err());
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(received(&collector), b"a line");
        syslog.rests_until = None;
        syslog.send(b"again").unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_message_is_cut_where_collectors_would_cut_it() {
        let path = path("long");
        let collector = UnixDatagram::bind(&path).unwrap();
        Syslog::new(&path).send(&[b'a'; 100_000]).unwrap();
        assert_eq!(received(&collector).len(), LONGEST);
        std::fs::remove_file(&path).unwrap();
    }
}
