//! A backend's answer that is no 101, passed on.

use super::deliver::Answer;
use super::exchange::Lease;
use super::failure::Step;
use super::{End, Visit};
use crate::forward::Delivery;
use crate::http::answer::Refusal;
use crate::http::body::Framing;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::stream::Stream;
use crate::route::backend::Backend;
use log::Level;
use std::sync::Arc;

impl Visit<'_> {
    /// Passes an ordinary answer on, as one framed response after which both connections end. What the client
    /// has sent behind its request is dropped: no backend sees it as a request (CVE-2019-17567).
    pub(super) fn relay(
        &mut self,
        request: &RequestHead,
        answer: &ResponseHead,
        stream: Stream,
        backend: &Arc<Backend>,
        first: Vec<u8>,
    ) -> End {
        let framing = match Framing::of_answer(request.method(), answer) {
            Ok(framing) => framing,
            Err(why) => return self.backend_failed(Step::Handshake, Id::Garbage, &why),
        };
        if let Some(ours) = self.in_place_of(answer) {
            self.drop_early();
            return End::Failed(ours);
        }
        self.count_received(first.len());
        self.transaction.note().answer = Some(answer.headers.clone());
        let id = Id::NoSwitch;
        self.log(
            Topic::Tunnel,
            Level::Info,
            format_args!(
                "{id} the backend answered {} instead of 101; {}",
                answer.status,
                id.remedy()
            ),
        );
        let client = Delivery {
            version: request.version,
            afterwards: Afterwards::Ends,
            takes_trailers: false,
        };
        let timeout = self.site.host.backend_timeout(backend);
        let answer = Answer {
            head: answer,
            framing,
            request,
            first,
            upload: None,
        };
        let end = match self.deliver(answer, Lease::once(stream, backend), &client, timeout) {
            Ok(afterwards) => End::Answered(afterwards),
            // Another member may be asked for a tunnel that they belong to.
            Err(end @ End::BackendFailed(..)) => return end,
            Err(end) => end,
        };
        self.drop_early();
        end
    }

    fn drop_early(&mut self) {
        self.transaction.bytes_in += self.link.input.take().len() as u64;
    }

    /// The answer that the client gets in place of one of the backend's, whose body nobody then reads. It has been logged.
    /// httpd: `ProxyErrorOverride`.
    pub(super) fn in_place_of(&self, answer: &ResponseHead) -> Option<Refusal> {
        let status = answer.status;
        if !self.settings.error_override.replaces(status) {
            return None;
        }
        let id = Id::Overridden;
        self.log(
            Topic::Exchange,
            Level::Info,
            format_args!(
                "{id} the backend answered {status}, and the client gets ours in its place; {}",
                id.remedy()
            ),
        );
        Some(Refusal::in_place_of(answer))
    }
}
