//! The table of requests in `tests/data/routes`: through the built binary to real backends, and through Apache's httpd
//! with the same configuration to the same backends.

mod table;

use crate::support::client::{KEY, frame};
use crate::support::{BOUND, Backend, Httpd, Port, Proxy, TempDir, Wire, missing};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use table::{Case, Field, Table};
use tungstenite::handshake::derive_accept_key;

#[test]
fn every_request_of_the_tables_goes_where_it_says() {
    let mut failures = String::new();
    let mut count = 0;
    for table in Table::all() {
        let origins = Origins::new();
        let ours = Ours::start(&table, &origins);
        for case in &table.cases {
            count += 1;
            let problem = match ours.fronts.outcome(case, &origins) {
                Ok(outcome) => outcome.compare(case).err(),
                Err(problem) => Some(problem),
            };
            report(&mut failures, &table, case, problem);
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(count >= 150, "only {count} requests were found");
}

/// A difference that no line names is a failure, and a line that names one that is not there as well.
#[test]
fn httpd_does_the_same_but_where_the_tables_say_so() {
    if Httpd::program().is_none() {
        return missing("apache2 is not installed");
    }
    let mut failures = String::new();
    for table in Table::all() {
        let origins = Origins::new();
        let ours = Ours::start(&table, &origins);
        let theirs = Fronts::new();
        let config = theirs.config(&table, &origins);
        let httpd = Httpd::start(&config, theirs.address("FRONT"));
        for case in &table.cases {
            let both = ours.fronts.outcome(case, &origins).and_then(|ours| {
                let theirs = theirs.outcome(case, &origins);
                Ok((ours, theirs.map_err(|problem| format!("httpd: {problem}"))?))
            });
            let problem = match both {
                Ok((ours, theirs)) => {
                    let found = theirs.differences(&ours, case);
                    let line = |(mark, text): (&str, &String)| format!("\n    {mark} {text}");
                    let unlisted = found.difference(&case.differences);
                    let vanished = case.differences.difference(&found);
                    let lines: String = unlisted
                        .map(|text| ("unlisted:", text))
                        .chain(vanished.map(|text| ("not there:", text)))
                        .map(line)
                        .collect();
                    (!lines.is_empty()).then_some(lines)
                }
                Err(problem) => Some(problem),
            };
            report(&mut failures, &table, case, problem);
        }
        drop(httpd);
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn report(failures: &mut String, table: &Table, case: &Case, problem: Option<String>) {
    if let Some(problem) = problem {
        writeln!(
            failures,
            "tests/data/routes/{}:{}: {}: {}: {problem}",
            table.file, case.line, case.heading, case.request_line
        )
        .unwrap();
    }
}

/// What a request has come to.
#[derive(Debug)]
struct Outcome {
    /// The head of the client's answer.
    answer: String,
    /// The heads that backends have seen, each behind the name of its backend.
    seen: Vec<(&'static str, String)>,
}

impl Outcome {
    fn status(&self) -> &str {
        self.answer.split(' ').nth(1).unwrap_or_default()
    }

    /// `ONE /target` for a tunnel to a backend, `404` for an answer without one.
    fn brief(&self) -> String {
        let line = |(origin, head): &(&'static str, String)| {
            let line = head.split("\r\n").next().unwrap_or_default();
            let target = line.strip_prefix("GET ");
            let target = target.and_then(|line| line.strip_suffix(" HTTP/1.1"));
            format!("{origin} {}", target.unwrap_or(line))
        };
        let mut parts: Vec<String> = self.seen.iter().map(line).collect();
        if self.status() != "101" || parts.is_empty() {
            parts.push(self.status().to_owned());
        }
        parts.join(" and ")
    }

    /// The fields that the backend has seen.
    fn fields(&self) -> Vec<(String, String)> {
        let head = self.seen.first().map_or("", |(_, head)| head.as_str());
        fields(head)
    }

    /// Holds this to what the table says.
    fn compare(&self, case: &Case) -> Result<(), String> {
        let brief = self.brief();
        if brief != case.expected {
            return Err(format!("expected {}, found {brief}", case.expected));
        }
        let found = self.fields();
        check(&case.seen, &found).map_err(|problem| format!("the backend saw {problem}"))?;
        check(&case.answered, &fields(&self.answer))
            .map_err(|problem| format!("the client saw {problem}"))?;
        if case.exactly {
            let expected: Vec<(String, String)> = case
                .seen
                .iter()
                .filter_map(|field| match field {
                    Field::Is(name, value) => Some((name.clone(), value.clone())),
                    Field::Missing(_) => None,
                })
                .collect();
            if expected != found {
                return Err(format!("the backend saw {found:#?}"));
            }
        }
        Ok(())
    }

    /// What is otherwise here than in `ours`: another outcome; fields that the backend saw otherwise or in another order; and
    /// of the fields that the case names in an answer of the same status, what the client saw otherwise.
    fn differences(&self, ours: &Self, case: &Case) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let brief = self.brief();
        if brief != ours.brief() {
            found.insert(brief);
        }
        if !self.seen.is_empty() && !ours.seen.is_empty() {
            let (theirs, ours) = (self.fields(), ours.fields());
            found.extend(differing(&theirs, &ours, |_| true));
            let order = |fields: &[(String, String)]| {
                let mut names = Vec::new();
                for (name, _) in fields {
                    let name = name.to_ascii_lowercase();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            };
            let (theirs, mut ours) = (order(&theirs), order(&ours));
            ours.retain(|name| theirs.contains(name));
            let mut common = theirs.clone();
            common.retain(|name| ours.contains(name));
            if common != ours {
                found.insert(format!("order: {}", theirs.join(", ")));
            }
        }
        if self.status() != ours.status() {
            return found;
        }
        let named = |name: &str| {
            case.answered.iter().any(|field| match field {
                Field::Is(own, _) | Field::Missing(own) => own.eq_ignore_ascii_case(name),
            })
        };
        let answered = differing(&fields(&self.answer), &fields(&ours.answer), named);
        found.extend(answered.iter().map(|difference| format!("<- {difference}")));
        found
    }
}

/// The fields of a head in their order.
fn fields(head: &str) -> Vec<(String, String)> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Holds fields to what is said about some of them.
fn check(expected: &[Field], found: &[(String, String)]) -> Result<(), String> {
    for field in expected {
        let (Field::Is(name, _) | Field::Missing(name)) = field;
        let mut values = found
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value);
        let is_right = match field {
            Field::Is(_, value) => values.any(|found| found == value),
            Field::Missing(_) => values.next().is_none(),
        };
        if !is_right {
            return Err(format!("{found:#?}, against {field:?}"));
        }
    }
    Ok(())
}

/// What `theirs` has otherwise than `ours`, of the names that count: all values of a field, or `no NAME`.
fn differing(
    theirs: &[(String, String)],
    ours: &[(String, String)],
    counts: impl Fn(&str) -> bool,
) -> Vec<String> {
    let by_name = |fields: &[(String, String)]| {
        let mut map: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
        for (name, value) in fields.iter().filter(|(name, _)| counts(name)) {
            let entry = map.entry(name.to_ascii_lowercase());
            let entry = entry.or_insert_with(|| (name.clone(), Vec::new()));
            entry.1.push(value.clone());
        }
        map
    };
    let (mut theirs, ours) = (by_name(theirs), by_name(ours));
    let mut lines = Vec::new();
    for (key, (name, values)) in ours {
        match theirs.remove(&key) {
            None => lines.push(format!("no {name}")),
            Some((_, others)) if others != values => {
                lines.push(format!("{name}: {}", others.join(" and ")));
            }
            Some(_) => {}
        }
    }
    let rest = theirs.into_values();
    lines.extend(rest.map(|(name, values)| format!("{name}: {}", values.join(" and "))));
    lines
}

/// The backends that configurations may name.
struct Origins {
    all: Vec<(&'static str, Backend)>,
    seen: Arc<Mutex<Vec<(&'static str, String)>>>,
    socket: TempDir,
}

const SOCKET: &str = "SOCKET";

impl Origins {
    fn new() -> Self {
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
    fn take(&self, before: &[usize]) -> Result<Vec<(&'static str, String)>, String> {
        for ((name, backend), before) in self.all.iter().zip(before) {
            backend.greet(PROBE);
            let seen = std::mem::take(&mut *self.seen.lock().unwrap());
            let heads = seen.iter().filter(|(seen, _)| seen == name).count();
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

/// Switches to whatever is asked for, and says in a frame who it is.
fn answer(mut wire: Wire, name: &'static str, seen: &Mutex<Vec<(&'static str, String)>>) {
    let Ok(head) = wire.try_head() else {
        return;
    };
    if head != PROBE {
        seen.lock().unwrap().push((name, head.clone()));
    }
    let fields = fields(&head);
    let field = |name: &str| {
        let mut found = fields
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    };
    let upgrade = field("Upgrade").unwrap_or("none");
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\nServer: {name}\r\n"
    );
    if let Some(key) = field("Sec-WebSocket-Key") {
        let accept = derive_accept_key(key.as_bytes());
        head += &format!("Sec-WebSocket-Accept: {accept}\r\n");
    }
    if wire.send_if_taken(head + "\r\n") && wire.send_if_taken(frame(name.as_bytes(), None)) {
        while matches!(wire.read(&mut [0; 512]), Ok(1..)) {}
    }
}

/// The addresses that one server listens on.
struct Fronts(Vec<(&'static str, Port)>);

impl Fronts {
    fn new() -> Self {
        let at = |last| Port::at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        Self(vec![("FRONT", at(1)), ("SIDE", at(2))])
    }

    fn address(&self, name: &str) -> SocketAddr {
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

    fn config(&self, table: &Table, origins: &Origins) -> String {
        let text = format!("Listen @FRONT@\nListen @SIDE@\n{}", table.config);
        self.fill(&text, origins)
    }

    /// Sends the request of a case, and says what came of it, with placeholders in place of addresses.
    fn outcome(&self, case: &Case, origins: &Origins) -> Result<Outcome, String> {
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
        if outcome.status() == "101" {
            let name = fields(&outcome.answer);
            let name = name.into_iter().find(|(name, _)| name == "Server");
            let name = name.ok_or("a 101 that is not from a backend")?.1;
            client.expect(frame(name.as_bytes(), None));
        }
        outcome.seen = origins.take(&before)?;
        for (mut name, mut value) in self.names(origins) {
            // A number alone could be anything.
            if name.ends_with("-PORT@") {
                name.insert(0, ':');
                value.insert(0, ':');
            }
            let heads = outcome.seen.iter_mut().map(|(_, head)| head);
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

/// The built binary with the configuration of a table.
struct Ours {
    fronts: Fronts,
    _proxy: Proxy,
}

impl Ours {
    fn start(table: &Table, origins: &Origins) -> Self {
        let fronts = Fronts::new();
        let proxy = Proxy::start(fronts.config(table, origins));
        Self {
            fronts,
            _proxy: proxy,
        }
    }
}
