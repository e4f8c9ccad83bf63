//! `--explain`: what would become of a request, told step by step, without a socket. The rooms that decide here are those
//! that serve.

mod members;

use crate::config::{Config, VirtualHost, limit, span};
use crate::forward::{self, Manner};
use crate::handshake;
use crate::http::answer::Refusal;
use crate::http::body::Framing;
use crate::http::head::RequestHead;
use crate::http::headers::is_token;
use crate::ids::Id;
use crate::route::backend::Backend;
use crate::route::destination::Destination;
use crate::route::{Arrival, Decision, Found, Route};
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// The request that is asked about.
#[derive(Debug)]
pub struct Question {
    /// `GET /ws/ HTTP/1.1`; the version may be missing.
    pub request_line: String,
    /// `Name: value`; a field that is given without a value is left out of those that are assumed.
    pub fields: Vec<String>,
    /// Where it comes from.
    pub client: IpAddr,
    /// When it comes.
    pub at: SystemTime,
    /// The same moment, as spans are measured from it.
    pub now: Instant,
}

/// What a client sends that opens a WebSocket, beside `Host`. Assumed of a GET unless the question has another word for it,
/// or says that there is no `Upgrade`.
const HANDSHAKE: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// Tells what would become of the request.
///
/// # Errors
/// A question that is no request.
pub fn explain(config: &Config, question: &Question) -> Result<String, String> {
    let mut told = String::new();
    let text = request_text(config, question)?;
    // Writing to a string cannot fail.
    let _ = tell(config, question, &text, &mut told);
    Ok(told)
}

/// The bytes of the request, as they would come.
fn request_text(config: &Config, question: &Question) -> Result<String, String> {
    let mut fields = Vec::new();
    for field in &question.fields {
        let (name, value) = field
            .split_once(':')
            .filter(|(name, _)| is_token(name.as_bytes()))
            .ok_or_else(|| format!("-H: expected \"Name: value\", found {field:?}"))?;
        fields.push((name, value.trim()));
    }
    let given = |name: &str| {
        fields
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let server_name = config
        .virtual_hosts
        .first()
        .map_or(&config.main.server_name, |host| &host.server_name);
    let mut text = question.request_line.trim().to_owned();
    if !text.contains(' ') {
        return Err(format!(
            "--explain: expected a request line such as \"GET /ws/ HTTP/1.1\", found {text:?}"
        ));
    }
    if text.split(' ').count() == 2 {
        text.push_str(" HTTP/1.1");
    }
    text.push_str("\r\n");
    let asks_for_page = fields
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("Upgrade") && value.is_empty());
    let opens = text.starts_with("GET ") && !asks_for_page;
    let host = [("Host", server_name.as_ref())];
    let handshake = HANDSHAKE.into_iter().filter(|_| opens);
    let usual = host.into_iter().chain(handshake);
    let usual = usual.filter(|(name, _)| !given(name));
    let given = fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .copied();
    for (name, value) in usual.chain(given) {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    Ok(text)
}

fn tell(config: &Config, question: &Question, text: &str, out: &mut String) -> fmt::Result {
    writeln!(out, "request")?;
    write_head(out, text.as_bytes())?;
    let mut fields = text.lines().filter_map(|line| line.split_once(": "));
    let host_field = fields.find(|(name, _)| name.eq_ignore_ascii_case("Host"));
    let host_field = host_field.map(|(_, value)| value);
    let local = local_address(config, host_field);
    let first = config.host_for(local, None);
    let mut head = match RequestHead::parse(text.as_bytes(), &first.limits) {
        Ok(Some((_, head))) => head,
        Ok(None) => {
            return write_refusal(
                out,
                &Refusal::new(Id::HeadCut, "the request is not complete"),
            );
        }
        Err(error) => return write_refusal(out, &error.into()),
    };
    let host = config.host_for(local, head.headers.first("Host"));
    writeln!(out, "listener")?;
    writeln!(out, "  {local}, client {}", question.client)?;
    let kind = if host.addresses.is_empty() {
        "main server"
    } else {
        "virtual host"
    };
    writeln!(out, "{kind}")?;
    writeln!(out, "  {}  [{}]", host.server_name, host.origin)?;

    let peer = SocketAddr::new(question.client, 0);
    let mut arrival = Arrival {
        client: peer,
        peer,
        local,
        tls: None,
        received: question.at,
        took: Duration::ZERO,
    };
    let mut steps = String::new();
    let decision = host.router.route(&mut head, &arrival, &mut |step| {
        let _ = writeln!(steps, "  {step}");
    });
    write!(out, "routing\n{steps}")?;
    arrival.client = decision.client;
    match &decision.outcome {
        Ok(Found::Handler(handler)) => {
            writeln!(out, "answer\n  200: {handler} of this program")
        }
        Ok(Found::Route(route)) => {
            let case = Case {
                host,
                decision: &decision,
                head: &head,
                arrival: &arrival,
                now: question.now,
            };
            write_route(out, &case, route)
        }
        Err(refusal) => write_refusal(out, refusal),
    }
}

/// The listener with the port of `Host`, else the first.
fn local_address(config: &Config, host_field: Option<&str>) -> SocketAddr {
    let port = host_field.and_then(|host| host.rsplit_once(':')?.1.parse::<u16>().ok());
    let named = config
        .listen
        .iter()
        .find(|listen| Some(listen.port) == port);
    let listen = named.or_else(|| config.listen.first());
    let any = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match listen {
        Some(listen) => SocketAddr::new(listen.address.unwrap_or(any), listen.port),
        None => SocketAddr::new(any, 0),
    }
}

/// A request that has found its way.
struct Case<'a> {
    host: &'a VirtualHost,
    decision: &'a Decision<'a>,
    head: &'a RequestHead,
    arrival: &'a Arrival<'a>,
    now: Instant,
}

fn write_route(out: &mut String, case: &Case<'_>, route: &Route) -> fmt::Result {
    match &route.to {
        Destination::Backend(backend) => write_backend(out, case, backend, &route.target),
        Destination::Balancer { balancer, .. } => {
            members::write_balancer(out, case, balancer, &route.target)
        }
    }
}

fn write_backend(
    out: &mut String,
    case: &Case<'_>,
    backend: &Backend,
    target: &str,
) -> fmt::Result {
    let Case {
        host,
        decision,
        head,
        arrival,
        ..
    } = case;
    let Decision {
        settings,
        environment,
        ..
    } = decision;
    let parameters = &backend.parameters;
    writeln!(out, "backend")?;
    writeln!(out, "  {}", backend.url)?;
    let connect = limit(Some(host.connect_timeout(backend)));
    let step = limit(Some(host.backend_timeout(backend)));
    writeln!(
        out,
        "  connect within {connect}, each other step within {step}"
    )?;
    if let Some(max) = parameters.max {
        writeln!(out, "  at most {max} at once")?;
    }
    let policy = forward::Policy::new(settings, &host.server_name, arrival, &backend.url);
    let asked = if backend.url.scheme.is_tunnel() {
        handshake::requested(head, parameters.upgrade())
            .map(|asked| forward::upgrade_head(head, target, &asked, &policy))
    } else {
        Framing::of_request(head)
            .map_err(Refusal::from)
            .and_then(|body| Manner::new(head, body, false, parameters, environment))
            .map(|manner| forward::exchange_head(head, target, &manner, &policy))
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refusal) => return write_refusal(out, &refusal),
    };
    if parameters.is_disabled == Some(true) {
        let why = "the backend is disabled (status=+D)";
        return write_refusal(out, &Refusal::new(Id::Disabled, why));
    }
    writeln!(out, "the backend is asked")?;
    write_head(out, &asked)?;
    if !backend.url.scheme.is_tunnel() {
        return writeln!(out, "exchange\n  the answer is passed on");
    }
    writeln!(out, "tunnel")?;
    writeln!(
        out,
        "  idle {}, half closed {}",
        limit(settings.idle_timeout),
        limit(Some(settings.half_close_timeout))
    )?;
    if settings.asynchronous {
        let delay = span(settings.async_delay);
        writeln!(out, "  in a reactor, after {delay} of silence")
    } else {
        writeln!(out, "  in its worker")
    }
}

fn write_refusal(out: &mut String, refusal: &Refusal) -> fmt::Result {
    writeln!(out, "answer")?;
    writeln!(out, "  {}: {}", refusal.status, refusal.why)?;
    writeln!(out, "  {}: {}", refusal.id, refusal.id.remedy())
}

/// The lines of a head, as a terminal can show them.
fn write_head(out: &mut String, head: &[u8]) -> fmt::Result {
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            writeln!(
                out,
                "  {}",
                String::from_utf8_lossy(line)
                    .escape_debug()
                    .to_string()
                    .replace("\\\"", "\"")
            )?;
        }
    }
    Ok(())
}
