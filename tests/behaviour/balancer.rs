//! Balancers as the configuration makes them, with members that say who they are.

mod choice;
mod environment;
mod failover;
mod judgement;
mod places;
mod sessions;
mod waiting;

use crate::support::client::{request_with, switch_with};
use crate::support::pages::{Asked, get_with, page_with};
use crate::support::wire::Answer;
use crate::support::{BOUND, Backend, Client, Pages, Port, Proxy, wait_until};
use std::net::{IpAddr, Ipv4Addr};

/// What members are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tunnel,
    Page,
}

const BOTH: [Kind; 2] = [Kind::Tunnel, Kind::Page];

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Tunnel => "ws",
            Self::Page => "http",
        }
    }

    /// The status of what has come about.
    fn success(self) -> u16 {
        match self {
            Self::Tunnel => 101,
            Self::Page => 200,
        }
    }

    fn request(self, path: &str, fields: &str) -> String {
        match self {
            Self::Tunnel => request_with(path, fields),
            Self::Page => get_with(path, fields),
        }
    }

    /// `ws://127.0.0.1:port` or `http://127.0.0.1:port`
    fn url(self, backend: &Backend) -> String {
        format!("{}://{}", self.scheme(), backend.address())
    }

    /// The URL of a member that nobody listens at, as long as `port` lives.
    fn nobody(self, port: &Port) -> String {
        format!("{}://{}", self.scheme(), port.address())
    }

    /// The URL of a member.
    fn at(self, pages: &Pages) -> String {
        self.url(&pages.backend)
    }
}

fn port() -> Port {
    Port::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// What a member called `name` says to whatever it is asked.
fn own_answer(name: &str, asked: &Asked) -> String {
    let field = format!("X-Member: {name}\r\n");
    if asked.field("Upgrade").is_some() {
        switch_with(&field)
    } else {
        page_with(&field, "")
    }
}

/// A member that says its name, and keeps what it is asked.
fn member(name: &'static str) -> Pages {
    Pages::answering(move |asked| own_answer(name, asked))
}

/// One that answers with this status.
fn failing(name: &'static str, status: &'static str) -> Pages {
    Pages::answering(move |_| {
        format!("HTTP/1.1 {status}\r\nX-Member: {name}\r\nContent-Length: 4\r\n\r\nbusy")
    })
}

/// `balancer://set` of these members, each a URL with its parameters. `set`: lines inside of its section.
fn section(members: &[String], set: &str) -> String {
    let members: String = members
        .iter()
        .map(|line| format!("BalancerMember {line}\n"))
        .collect();
    format!("<Proxy balancer://set>\n{members}{set}\n</Proxy>\n")
}

/// A proxy that leads everything to that, and logs status and member.
#[track_caller]
fn start(members: &[String], set: &str, more: &str) -> Proxy {
    Proxy::start(format!(
        "{more}\n{}ProxyPass / balancer://set/\n{LOG}",
        section(members, set)
    ))
}

const LOG: &str = "CustomLog access.log \"%>s %{BALANCER_WORKER_NAME}e\"";

/// Asks, and ends the connection, be it a tunnel or not.
#[track_caller]
fn ask_with(proxy: &Proxy, kind: Kind, path: &str, fields: &str) -> Answer {
    whole_answer(&mut Client::sending(proxy, kind.request(path, fields)))
}

#[track_caller]
fn ask(proxy: &Proxy, kind: Kind) -> Answer {
    ask_with(proxy, kind, "/", "")
}

/// An answer with its body, if it says how long that is.
#[track_caller]
fn whole_answer(client: &mut Client) -> Answer {
    let mut answer = client.answer_head();
    if let Some(length) = answer.field("Content-Length") {
        answer.body = client.receive(length.parse().unwrap());
    }
    answer
}

/// The member that has answered, or the status that came instead.
fn whose(answer: &Answer) -> String {
    let name = answer.field("X-Member");
    name.unwrap_or_else(|| answer.status.to_string())
}

/// Who answers so many requests, one after the other.
#[track_caller]
fn row(proxy: &Proxy, kind: Kind, count: usize) -> String {
    (0..count).map(|_| whose(&ask(proxy, kind))).collect()
}

/// How many requests each has seen.
fn seen<const N: usize>(members: [&Pages; N]) -> [usize; N] {
    members.map(|member| member.seen().len())
}

/// Waits for so many lines of the log that hold `text`, once the proxy has done what it was asked, and fails where there
/// are more.
#[track_caller]
fn told(proxy: &Proxy, text: &str, count: usize) -> Vec<String> {
    proxy.settle();
    let mut lines = Vec::new();
    wait_until(&format!("{count} lines with {text}"), BOUND, || {
        lines = proxy.log_lines(text);
        lines.len() >= count
    });
    assert_eq!(lines.len(), count, "{text}: {lines:#?}");
    lines
}

/// The number of a line about a member that is set aside.
const SET_ASIDE: &str = "PW417";
