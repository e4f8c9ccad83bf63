//! What the client sends until its request is known.

use super::{End, Visit};
use crate::http::answer::Refusal;
use crate::http::head::{self, RequestHead};
use crate::http::proxy_header::{self, Header};
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::buffer::Buffer;
use crate::net::wait::Interrupted;
use crate::transaction::Transaction;
use std::time::Instant;

impl Visit<'_> {
    /// Reads the request head; what is behind it stays where it is.
    pub(super) fn read_request(&mut self) -> Result<RequestHead, End> {
        let mut buffer = std::mem::take(&mut self.link.input);
        // What it has waited for a worker is not the client's fault.
        let began = Instant::now();
        let outcome = self
            .read_proxy_header(&mut buffer, began)
            .and_then(|()| self.secure_first(&mut buffer, began))
            .and_then(|began| self.read_request_into(&mut buffer, began));
        self.trace_head(Topic::Core, "client", buffer.bytes());
        let request_line = head::request_line(buffer.bytes());
        self.transaction.request_line = request_line.to_vec();
        let (used, head) =
            outcome.inspect_err(|_| self.transaction.bytes_in = buffer.bytes().len() as u64)?;
        self.transaction.bytes_in = used as u64;
        buffer.discard(used);
        self.link.input = buffer;
        Ok(head)
    }

    /// Reads the PROXY header, where the connection has to begin with one, and takes what it says of the client.
    fn read_proxy_header(&mut self, buffer: &mut Buffer, began: Instant) -> Result<(), End> {
        let Transaction { peer, local, .. } = self.transaction;
        let is_expected = self
            .generation
            .config
            .proxy_protocol
            .is_expected(local, peer.ip());
        if !is_expected || self.link.served > 0 {
            return Ok(());
        }
        let (used, header) = loop {
            if let Some(parsed) = proxy_header::parse(buffer.bytes()).map_err(Refusal::from)? {
                break parsed;
            }
            self.receive(buffer, began, "PROXY header")?;
        };
        self.debug(Topic::Core, format_args!("PROXY header: {header}"));
        if let Header::Proxied { source, .. } = header {
            self.transaction.set_client(source);
            self.link.forwarded_for = Some(source);
        }
        buffer.discard(used);
        Ok(())
    }

    fn read_request_into(
        &mut self,
        buffer: &mut Buffer,
        began: Instant,
    ) -> Result<(usize, RequestHead), End> {
        loop {
            let parsed = RequestHead::parse(buffer.bytes(), &self.site.host.limits);
            if let Some(parsed) = parsed.map_err(Refusal::from)? {
                return Ok(parsed);
            }
            self.receive(buffer, began, "request head")?;
        }
    }

    /// Takes what the client sends next of `what`, within the time that it has for all of its head.
    fn receive(&mut self, buffer: &mut Buffer, began: Instant, what: &str) -> Result<(), End> {
        let allowed = self.site.host.header_timeout;
        let allowed = allowed.allowed(buffer.bytes().len());
        let deadline = allowed.map(|allowed| began + allowed);
        match buffer.receive(&mut self.link.client, deadline, self.tools.waiter) {
            Ok(0) if buffer.bytes().is_empty() => {
                Err(End::Gone("closed without a request".to_owned()))
            }
            Ok(0) => {
                let why = format!("the connection ended inside the {what}");
                Err(Refusal::new(Id::HeadCut, why).into())
            }
            Ok(_) => Ok(()),
            Err(Interrupted::Deadline) => {
                let why = format!("the {what} took longer than RequestReadTimeout allows");
                Err(Refusal::new(Id::HeadTimeout, why).into())
            }
            Err(why) => Err(End::Gone(why.to_string())),
        }
    }
}
