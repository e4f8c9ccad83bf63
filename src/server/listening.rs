//! Which sockets listen: those that a configuration wants, those that are open, and those that go.

use crate::config::Listen;
use crate::net::listen::{Asked, Listener};
use std::io;
use std::sync::Arc;

/// What a `Listen` asks for: by that the socket is known again that was opened for it.
pub(super) fn asked(listen: &Listen) -> Asked {
    Asked {
        address: listen.address,
        port: listen.port,
    }
}

/// Binds what is `wanted`: what is `open` already stays so. Those that are `going` do not keep others from their ports.
pub(super) fn bind(
    wanted: &[Listen],
    backlog: i32,
    open: &[Arc<Listener>],
    going: &[Arc<Listener>],
) -> Result<Vec<Arc<Listener>>, String> {
    let mut open = open.to_vec();
    let bind_one = |listen: &Listen| {
        let asked = asked(listen);
        // Each once: the kernel may have been asked for a port several times.
        if let Some(place) = open.iter().position(|it| it.asked() == asked) {
            return Ok(open.remove(place));
        }
        let bound = Listener::bind(asked, backlog, going);
        bound.map(Arc::new).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "; another program listens there",
                io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
                io::ErrorKind::PermissionDenied => {
                    "; ports below 1024 take root or CAP_NET_BIND_SERVICE"
                }
                _ => "",
            };
            format!(
                "{}: Listen: cannot bind {listen}: {error}{hint}",
                listen.origin
            )
        })
    };
    wanted.iter().map(bind_one).collect()
}

/// Those of the `open` listeners that nobody wants any more.
pub(super) fn going<'a>(
    wanted: &'a [Listen],
    open: &'a [Arc<Listener>],
) -> impl Iterator<Item = Arc<Listener>> + 'a {
    let is_wanted = |it: &Listener| wanted.iter().any(|listen| asked(listen) == it.asked());
    open.iter().filter(move |it| !is_wanted(it)).cloned()
}
