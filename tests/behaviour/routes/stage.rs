//! Where a table is played: the backends, and the addresses of a server between them and the clients.

use super::outcome::{Outcome, Seen, fields};
use super::table::{Case, Table};
use crate::support::client::{KEY, frame};
use crate::support::http::Message;
use crate::support::{BOUND, Backend, Port, TempDir, Wire};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use tungstenite::handshake::derive_accept_key;

/// The backends that configurations may name.
pub struct Origins {
    all: Vec<(&'static str, Backend)>,
    seen: Arc<Mutex<Vec<Seen>>>,
    socket: TempDir,
}

const SOCKET: &str = "SOCKET";

impl Origins {
    pub fn new() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let recording = |name: &'static str| {
            let seen = Arc::clone(&seen);
            move |wire: Wire| answer(wire, name, &seen)
        };
        let four = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let places = [("ONE", four), ("TWO", four), ("THREE", four), ("SIX", six)];
        let mut all = places
            .map(|(name, ip)| (name, Backend::serve_on(ip, recording(name))))
            .into_iter()
            .collect::<Vec<_>>();
        // httpd's children are somebody else, who may not look into everybody's folders.
        let socket = TempDir::below(&std::env::temp_dir());
        let path = socket.path().join("app.sock");
        all.push((SOCKET, Backend::serve_unix(&path, recording(SOCKET))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { all, seen, socket }
    }

    /// What stands for each backend in a configuration.
    fn names(&self) -> impl Iterator<Item = (String, String)> {
        self.all.iter().map(|(name, backend)| {
            let text = match *name {
                SOCKET => self.socket.path().join("app.sock").display().to_string(),
                _ => backend.address().to_string(),
            };
            (format!("@{name}@"), text)
        })
    }

    fn counts(&self) -> Vec<usize> {
        self.all
            .iter()
            .map(|(_, backend)| backend.count())
            .collect()
    }

    /// What was seen since the last time, once nothing more can come: whoever connected did so before we do here.
    fn take(&self, before: &[usize]) -> Result<Vec<Seen>, String> {
        for ((name, backend), before) in self.all.iter().zip(before) {
            backend.greet(PROBE);
            let seen = std::mem::take(&mut *self.seen.lock().unwrap());
            let heads = seen.iter().filter(|seen| seen.origin == *name).count();
            self.seen.lock().unwrap().extend(seen);
            let connections = backend.count() - before - 1;
            if connections != heads {
                return Err(format!(
                    "{name}: {connections} connections and {heads} heads"
                ));
            }
        }
        Ok(std::mem::take(&mut *self.seen.lock().unwrap()))
    }
}

/// What we ask for ourselves.
const PROBE: &str = "PROBE / HTTP/1.1\r\n\r\n";

/// Switches to whatever is asked for, and says in a frame who it is; a request that asks for nothing gets 200, and reads
/// there who it is.
fn answer(wire: Wire, origin: &'static str, heads: &Mutex<Vec<Seen>>) {
    let Some((mut wire, in_tls)) = open(wire) else {
        return;
    };
    let Ok(Some(request)) = Message::request(&mut wire) else {
        return;
    };
    let Message { head, body, .. } = request;
    let asked = fields(&head);
    let is_head = head.starts_with("HEAD ");
    if head != PROBE {
        heads.lock().unwrap().push(Seen {
            origin,
            in_tls,
            head,
            content: body,
        });
    }
    let field = |name: &str| {
        let mut found = asked
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    };
    let Some(upgrade) = field("Upgrade") else {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: {origin}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            origin.len()
        );
        wire.send_if_taken(head + if is_head { "" } else { origin });
        return;
    };
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\nServer: {origin}\r\n"
    );
    if let Some(key) = field("Sec-WebSocket-Key") {
        let accept = derive_accept_key(key.as_bytes());
        head += &format!("Sec-WebSocket-Accept: {accept}\r\n");
    }
    if wire.send_if_taken(head + "\r\n") && wire.send_if_taken(frame(origin.as_bytes(), None)) {
        while matches!(wire.read(&mut [0; 512]), Ok(1..)) {}
    }
}

/// The connection as it is spoken, and whether that is in TLS: every backend takes both.
fn open(wire: Wire) -> Option<(Wire, bool)> {
    #[cfg(feature = "tls")]
    {
        const HANDSHAKE: u8 = 22;
        let mut first = [0];
        if wire.tcp().peek(&mut first).ok()? == 1 && first == [HANDSHAKE] {
            let tcp = wire.tcp().try_clone().ok()?;
            return Some((
                Wire::new_tls(identity().acceptor_without_tickets().accept(tcp).ok()?),
                true,
            ));
        }
    }
    Some((wire, false))
}

/// The certificate of every backend.
#[cfg(feature = "tls")]
fn identity() -> &'static crate::support::certs::Identity {
    use std::sync::OnceLock;
    static IDENTITY: OnceLock<crate::support::certs::Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| crate::support::certs::Identity::self_signed("localhost"))
}

/// The addresses that one server listens on.
pub struct Fronts(Vec<(&'static str, Port)>);

impl Fronts {
    pub fn new() -> Self {
        let at = |last| Port::at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        Self(vec![("FRONT", at(1)), ("SIDE", at(2))])
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        let found = self.0.iter().find(|(own, _)| *own == name);
        found.expect("a listener of this name").1.address()
    }

    /// The placeholders, and what they stand for.
    fn names(&self, origins: &Origins) -> Vec<(String, String)> {
        let mut names: Vec<(String, String)> = origins.names().collect();
        for (name, port) in &self.0 {
            names.push((format!("@{name}@"), port.address().to_string()));
            let number = port.address().port().to_string();
            names.push((format!("@{name}-PORT@"), number));
        }
        names
    }

    fn fill(&self, text: &str, origins: &Origins) -> String {
        let names = self.names(origins).into_iter();
        names.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&name, &value)
        })
    }

    pub fn config(&self, table: &Table, origins: &Origins) -> String {
        let text = format!("Listen @FRONT@\nListen @SIDE@\n{}", table.config);
        self.fill(&text, origins)
    }

    /// Sends the request of a case, and says what came of it, with placeholders in place of addresses.
    pub fn outcome(&self, case: &Case, origins: &Origins) -> Result<Outcome, String> {
        let tried = catch_unwind(AssertUnwindSafe(|| self.try_outcome(case, origins)));
        tried.unwrap_or_else(|_| Err("it came to nothing; see above".to_owned()))
    }

    fn try_outcome(&self, case: &Case, origins: &Origins) -> Result<Outcome, String> {
        let ordinary = [
            ("Host", "front.example"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        let before = origins.counts();
        let from = case
            .from
            .as_ref()
            .map(|from| from.parse().expect("an address"));
        let mut client = Wire::new(connected(from, self.address(&case.at)));
        let text = String::from_utf8(case.bytes(&ordinary));
        // Bytes that are no text hold no placeholders.
        let bytes = text.map_or_else(
            |error| error.into_bytes(),
            |text| self.fill(&text, origins).into_bytes(),
        );
        // A refusal may come while we still send.
        client.send_if_taken(bytes);
        let mut outcome = Outcome {
            answer: client.try_head()?,
            seen: Vec::new(),
        };
        let said = fields(&outcome.answer);
        let server = said.iter().find(|(name, _)| name == "Server");
        let mut names = origins.all.iter().map(|(name, _)| *name);
        let origin = names.find(|name| server.is_some_and(|(_, server)| server == name));
        match (outcome.status(), origin) {
            ("101", None) => return Err("a 101 that is not from a backend".to_owned()),
            ("101", Some(name)) => client.expect(frame(name.as_bytes(), None)),
            ("200", Some(name)) if !case.request_line.starts_with("HEAD ") => client.expect(name),
            _ => {}
        }
        outcome.seen = origins.take(&before)?;
        for (mut name, mut value) in self.names(origins) {
            // A number alone could be anything.
            if name.ends_with("-PORT@") {
                name.insert(0, ':');
                value.insert(0, ':');
            }
            let heads = outcome.seen.iter_mut().map(|seen| &mut seen.head);
            for head in heads.chain([&mut outcome.answer]) {
                *head = head.replace(&value, &name);
            }
        }
        Ok(outcome)
    }
}

/// A connection that begins at this address of the machine.
fn connected(from: Option<IpAddr>, to: SocketAddr) -> TcpStream {
    let Some(from) = from else {
        return TcpStream::connect_timeout(&to, BOUND).expect("to connect");
    };
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::new(from, 0)).expect("an address of this machine");
    connect(&socket, &to).expect("to connect");
    socket.into()
}
