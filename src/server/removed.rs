//! Tunnels whose mapping or backend a reload has removed, where they are to be ended: `ProxyWebsocketOnReload`.

use super::generation::Generation;
use crate::config::OnReload;
use crate::error_log;
use crate::registry::{Registry, View};
use crate::transaction::{CloseReason, Transaction};
use std::time::Instant;

/// What the last reload has left to do.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// When those that have no place in it are to be ended.
    at: Option<Instant>,
}

impl Removed {
    /// `generation` is in force now. The last reload decides: what it knows again goes on.
    pub(super) fn note(&mut self, generation: &Generation, tunnels: &Registry) {
        self.at = None;
        let OnReload::End(delay) = generation.config.on_reload else {
            return;
        };
        let count = removed(generation, tunnels).count();
        if count > 0 {
            error_log::notice(&format!(
                "{count} tunnels whose mapping or backend is gone end in {delay:?}"
            ));
        }
        // Handshakes that go on may lead to some more.
        self.at = Instant::now().checked_add(delay);
    }

    /// Ends them, if their time has come. Says when it will have.
    pub(super) fn end_due(
        &mut self,
        generation: &Generation,
        tunnels: &Registry,
    ) -> Option<Instant> {
        if self.at.is_some_and(|at| at <= Instant::now()) {
            for view in removed(generation, tunnels) {
                tunnels.end(view.id, CloseReason::Removed);
            }
            self.at = None;
        }
        self.at
    }
}

fn removed(generation: &Generation, tunnels: &Registry) -> impl Iterator<Item = View> {
    let is_removed = |view: &View| match (&view.mapping, &view.backend) {
        (Some(mapping), Some(backend)) => !generation.leads(&view.host, mapping, &backend.url),
        _ => false,
    };
    let views = tunnels.views().flat_map(|(views, _)| views);
    views.filter(is_removed)
}

/// Whether a tunnel that only now begins, under a configuration that `generation` has overtaken, came too late for its end.
pub(super) fn is_too_late(generation: &Generation, transaction: &Transaction) -> bool {
    let OnReload::End(delay) = generation.config.on_reload else {
        return false;
    };
    let Transaction {
        server_name,
        mapping: Some(mapping),
        backend: Some(backend),
        ..
    } = transaction
    else {
        return false;
    };
    generation.since.elapsed() >= delay && !generation.leads(server_name, mapping, &backend.url)
}
