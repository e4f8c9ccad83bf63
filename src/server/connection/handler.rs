//! Requests that this program answers itself: `SetHandler`.

use super::ending::unix_seconds;
use super::{End, Visit};
use crate::http::answer::{OwnHead, Refusal};
use crate::http::head::RequestHead;
use crate::http::headers::Headers;
use crate::http::persistence::Afterwards;
use crate::ids::Id;
use crate::route::edit;
use crate::route::settings::Handler;
use crate::server::status::Form;

/// Bytes that a client has its time for.
const PIECE: usize = 64 * 1024;

impl Visit<'_> {
    /// Answers a request for a handler.
    #[inline(never)]
    pub(super) fn answer_ourselves(
        &mut self,
        head: &RequestHead,
        handler: Handler,
    ) -> Result<Afterwards, End> {
        // Others need not wait for it.
        self.handshake = None;
        let is_head = match head.method() {
            "GET" => false,
            "HEAD" => true,
            other => {
                let why = format!("{handler} is asked with {}", other.escape_debug());
                let refusal = Refusal::new(Id::WrongMethod, why);
                return Err(refusal.with_header("Allow", "GET, HEAD").into());
            }
        };
        let query = head.target().split_once('?').map(|(_, query)| query);
        let form = match handler {
            Handler::ServerStatus => Form::asked_for(query),
        };
        let body = self.tools.shared.status(form);
        let answer = OwnHead {
            status: 200,
            fields: &form.fields(),
            content_type: form.content_type(),
            length: body.len(),
        };
        let afterwards = self.afterwards;
        let mut extra = Headers::default();
        let edits = &self.settings.answer_edits;
        edit::apply(edits, &mut extra, &self.circumstances(None));
        extra.remove("Content-Type");
        let answer = answer.encode(unix_seconds(), &extra, afterwards);
        self.transaction.status = 200;
        self.send(&answer)?;
        if !is_head {
            for piece in body.chunks(PIECE) {
                self.send(piece)?;
                self.transaction.body_out += piece.len() as u64;
            }
        }
        Ok(afterwards)
    }
}
