//! The limit of open files: raised as far as may be, and said where that is less than what the limits of the configuration
//! come to.

use crate::config::Config;
use crate::ids::Id;
use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Logs, listeners, configuration files while they are read, what threads wait with, and pipes for bulk data.
const OF_THE_PROCESS: u64 = 256;
/// A worker has up to four of its own, and the two ends of its tunnel or request.
const OF_A_WORKER: u64 = 6;
/// The two ends of a tunnel.
const OF_A_TUNNEL: u64 = 2;

/// Raises the soft limit to the hard one, which is the operator's. What is missing then, if anything is.
pub(super) fn provide(config: &Config) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut limit = current;
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // Where it is forbidden, the lower limit is what there is.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = maximum;
        }
    }
    let needed = needed(config);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        let id = Id::TooFewDescriptors;
        warn!(
            "{id} the limit of open files is {limit}, and {needed} may be needed for {}; {}",
            reasons(config),
            id.remedy()
        );
    }
}

/// What bounds the tunnels that are with no worker, if there are such.
fn tunnels(config: &Config) -> Option<(&'static str, usize)> {
    let mut hosts = config.hosts();
    if !hosts.any(|host| host.router.is_ever_asynchronous()) {
        return None;
    }
    let of_reactors = ("ProxyWebsocketAsyncMaxTunnels", config.reactor_limit);
    let of_all = config.max_tunnels;
    let of_all = of_all.map(|tunnels| ("ProxyWebsocketMaxTunnels", tunnels));
    let bounds = of_all.into_iter().chain([of_reactors]);
    bounds.min_by_key(|(_, tunnels)| *tunnels)
}

/// What all limits of the configuration come to.
fn needed(config: &Config) -> u64 {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let of_tunnels = tunnels(config).map_or(0, |(_, tunnels)| count(tunnels));
    let of_workers = count(config.max_request_workers).saturating_mul(OF_A_WORKER);
    of_workers
        .saturating_add(of_tunnels.saturating_mul(OF_A_TUNNEL))
        .saturating_add(OF_THE_PROCESS)
}

fn reasons(config: &Config) -> String {
    let workers = config.max_request_workers;
    match tunnels(config) {
        Some((bound, tunnels)) => format!("MaxRequestWorkers {workers} and {bound} {tunnels}"),
        None => format!("MaxRequestWorkers {workers}"),
    }
}
