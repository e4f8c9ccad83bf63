//! Whether there is room for one more tunnel: what happens to a handshake when one of the bounds is reached.

use super::failure::Step;
use super::{End, Visit};
use crate::http::answer::Refusal;
use crate::ids::Id;
use crate::logging::Topic;
use crate::route::backend::Backend;
use crate::server::limits::{Bounds, News, Reached};
use log::Level;
use std::time::Instant;

impl Visit<'_> {
    /// Takes a place for the tunnel that is asked for. Later attempts of the same request have it already.
    #[inline(never)]
    pub(super) fn enter(&mut self) -> Result<(), End> {
        if self.place.is_some() {
            return Ok(());
        }
        let shared = self.tools.shared;
        let host = &self.site.host;
        let bounds = Bounds {
            total: self.generation.config.max_tunnels,
            per_host: host.bounds.per_host,
            per_address: host.bounds.per_address,
            rate: self.generation.config.handshake_rate,
        };
        let client = self.transaction.client().ip();
        let entered = shared
            .limits
            .enter(client, &host.identity, &bounds, Instant::now());
        match entered {
            Ok(place) => {
                self.place = Some(place);
                Ok(())
            }
            Err(reached) => {
                self.say_reached(reached);
                Err(End::Failed(refusal(reached)))
            }
        }
    }

    /// Takes a place at the backend. Another member of its balancer may have one where this has none; it is not judged by
    /// that.
    #[inline(never)]
    pub(super) fn enter_backend(&mut self, backend: &Backend) -> Result<(), End> {
        let most = self.site.host.bounds.per_backend;
        let entered = match &mut self.place {
            Some(place) => place.enter_backend(&backend.url, most),
            None => Ok(()),
        };
        entered.map_err(|reached| {
            if self.elected.is_some() {
                self.debug(Topic::Tunnel, format_args!("{}: {reached}", backend.url));
            } else {
                self.say_reached(reached);
            }
            End::BackendFailed(Step::Acquire, refusal(reached))
        })
    }

    /// Gives the place at the backend back, since another one is tried.
    pub(super) fn leave_backend(&mut self) {
        if let Some(place) = &mut self.place {
            place.leave_backend();
        }
    }

    /// Every member of a balancer that could have had the request has as many tunnels as it may, or has failed before.
    pub(super) fn say_all_full(&self) {
        if let Some(most) = self.site.host.bounds.per_backend {
            self.say_reached(Reached::Backend(most));
        }
    }

    /// Counts it, and has a line for it. Who is refused again and again does not fill the log: one line in a while is for
    /// everybody, and the others are for who looks for them. The access log has each.
    fn say_reached(&self, reached: Reached) {
        let refusal = refusal(reached);
        let Refusal {
            id, status, why, ..
        } = &refusal;
        let line = self.transaction.request_line.escape_ascii();
        let url = match (&reached, &self.transaction.backend) {
            (Reached::Backend(_), Some(backend)) => format!(" {}:", backend.url),
            (Reached::Host(_), _) => format!(" {}:", self.site.host.server_name),
            _ => String::new(),
        };
        let remedy = id.remedy();
        let limits = &self.tools.shared.limits;
        let (level, others) = match limits.refused(reached, Instant::now()) {
            News::Known => (Level::Debug, String::new()),
            News::After(0) => (Level::Warn, String::new()),
            News::After(unsaid) => (
                Level::Warn,
                format!("; {unsaid} others since the last such line"),
            ),
        };
        self.log(
            Topic::Tunnel,
            level,
            format_args!("{id} \"{line}\" refused:{url} {why} ({status}); {remedy}{others}"),
        );
    }
}

/// Whether one of the bounds was reached.
pub(super) fn is_for_lack_of_room(refusal: &Refusal) -> bool {
    matches!(
        refusal.id,
        Id::TooManyTunnels
            | Id::TooManyOfHost
            | Id::TooManyAtBackend
            | Id::TooManyOfAddress
            | Id::TooOften
    )
}

fn refusal(reached: Reached) -> Refusal {
    let id = match reached {
        Reached::Total(_) => Id::TooManyTunnels,
        Reached::Host(_) => Id::TooManyOfHost,
        Reached::Backend(_) => Id::TooManyAtBackend,
        Reached::Address(_) => Id::TooManyOfAddress,
        Reached::Rate(_) => Id::TooOften,
    };
    Refusal::new(id, reached.to_string())
        .with_header("Retry-After", reached.retry_after().to_string())
}
