//! Sockets that were open before this process was: by socket activation, or held by the service manager since the process
//! before this one. Source: sd_listen_fds(3).

use super::asked;
use super::control::Doors;
use super::notify::{HELD, Manager};
use super::upgrade::{self, Predecessor};
use crate::config::{Config, Listen};
use crate::ids::Id;
use crate::net::listen::Listener;
use crate::net::local::LocalListener;
use crate::sys;
use log::warn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// A socket that came with the process.
#[derive(Debug)]
struct Passed {
    name: String,
    socket: OwnedFd,
}

/// The sockets that came with the process.
#[derive(Debug, Default)]
pub(super) struct Activation {
    passed: Vec<Passed>,
    /// Where they come from the process before this one, which waits for a word.
    pub(super) predecessor: Option<Predecessor>,
}

impl Activation {
    /// Takes them, if they are for this process: `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`, or what the process before
    /// this one says. To be called before anything else is opened.
    pub(super) fn of_environment() -> Self {
        upgrade::told().map_or_else(Self::of_manager, |(say, listeners)| {
            let numbers: Vec<_> = std::iter::once(say)
                .chain(listeners.iter().map(|(number, _)| *number))
                .collect();
            let mut sockets = sys::passed_descriptors(&numbers).into_iter();
            let say = sockets.next().flatten();
            let names = listeners.into_iter().map(|(_, name)| name);
            let passed = sockets.zip(names);
            Self {
                passed: passed
                    .filter_map(|(socket, name)| socket.map(|socket| Passed { name, socket }))
                    .collect(),
                predecessor: say.map(Predecessor::new),
            }
        })
    }

    fn of_manager() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let is_ours = variable("LISTEN_PID") == std::process::id().to_string();
        let count = variable("LISTEN_FDS").parse::<u16>().map_or(0, usize::from);
        if !is_ours || count == 0 {
            return Self::default();
        }
        let names = variable("LISTEN_FDNAMES");
        let mut names = names.split(':');
        let numbers: Vec<_> = (3..).take(count).collect();
        let passed = sys::passed_descriptors(&numbers).into_iter();
        let passed = passed.filter_map(|socket| {
            let name = names.next().unwrap_or("unknown").to_owned();
            // A number that nothing is open at leaves its name unused.
            socket.map(|socket| Passed { name, socket })
        });
        Self {
            passed: passed.collect(),
            predecessor: None,
        }
    }

    /// Those of them that `config` wants. What nobody wants is closed, and said.
    pub(super) fn sort(self, config: &Config, manager: &mut Manager) -> Sorted {
        let mut offered: Vec<Offered> = Vec::new();
        let mut sorted = Sorted::default();
        for Passed { name, socket } in self.passed {
            let socket = match LocalListener::adopt(socket) {
                Ok(listener) => {
                    let mut wanted = config.control.sockets.iter();
                    if wanted.any(|it| it.path == listener.path()) {
                        if is_opened(&name) {
                            // Its file is the manager's.
                            listener.leave();
                        }
                        sorted.doors.add_socket(listener);
                    } else {
                        let path = listener.path().display().to_string();
                        listener.leave();
                        reject(&name, &format!("no Listen is for unix:{path}"), manager);
                    }
                    continue;
                }
                Err(socket) => socket,
            };
            match Listener::address_of(&socket) {
                Ok(address) => offered.push(Offered {
                    name,
                    address,
                    socket,
                }),
                Err(problem) => reject(
                    &name,
                    &format!("it is no socket for Listen: {problem}"),
                    manager,
                ),
            }
        }
        let backlog = config.listen_backlog;
        let mut take = |listen: &Listen| {
            let Offered { name, socket, .. } = offered.remove(choose(listen, &offered)?);
            match Listener::adopt(asked(listen), socket, backlog) {
                Ok(listener) => Some((Arc::new(listener), is_opened(&name))),
                Err(error) => {
                    reject(&name, &error.to_string(), manager);
                    None
                }
            }
        };
        for listen in &config.listen {
            if let Some((listener, is_opened)) = take(listen) {
                if is_opened {
                    sorted.opened.push(Arc::downgrade(&listener));
                }
                sorted.listeners.push(listener);
            }
        }
        for listen in &config.control.status {
            if let Some((listener, _)) = take(listen) {
                sorted.doors.add_status(listener);
            }
        }
        for Offered { name, address, .. } in offered {
            reject(&name, &format!("no Listen is for {address}"), manager);
        }
        sorted
    }
}

/// Sockets that came with the process, by what they are for.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// `Listen`
    pub(super) listeners: Vec<Arc<Listener>>,
    /// Those of the listeners that the manager opens for every process anew.
    pub(super) opened: Vec<Weak<Listener>>,
    /// `Listen unix:`, `Listen ... status`
    pub(super) doors: Doors,
}

/// Whether the manager opens it for every process anew.
fn is_opened(name: &str) -> bool {
    !name.starts_with(HELD)
}

/// One that could be a listener.
#[derive(Debug)]
struct Offered<S = OwnedFd> {
    name: String,
    address: SocketAddr,
    socket: S,
}

fn reject(name: &str, why: &str, manager: &mut Manager) {
    let id = Id::NotListenedOn;
    warn!(
        "{id} socket {name:?} of the service manager is closed: {why}; {}",
        id.remedy()
    );
    if name.starts_with(HELD) {
        manager.let_go(name);
    }
}

/// The name of a `Listen` among sockets: its address, without the colons that such names must not have.
pub(super) fn name_of(listen: &Listen) -> String {
    let text = match listen.address {
        Some(_) => listen.to_string(),
        None => listen.port.to_string(),
    };
    text.replace(':', "-")
}

/// The place of the one that is for `listen`: by its name, or else by its address.
fn choose<S>(listen: &Listen, offered: &[Offered<S>]) -> Option<usize> {
    let name = name_of(listen);
    let is_called = |it: &Offered<S>| it.name.strip_prefix(HELD).unwrap_or(&it.name) == name;
    let is_at = |it: &Offered<S>| match listen.address {
        Some(address) => it.address == SocketAddr::new(address, listen.port),
        None => it.address.ip().is_unspecified() && it.address.port() == listen.port,
    };
    // IPv4 comes in through IPv6 as well, as a rule.
    let is_best = |it: &Offered<S>| is_at(it) && it.address.is_ipv6();
    let place = |fits: &dyn Fn(&Offered<S>) -> bool| offered.iter().position(fits);
    place(&is_called)
        .or_else(|| place(&is_best))
        .or_else(|| place(&is_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use crate::config_files::Machine;

    fn listens(lines: &[&str]) -> Vec<Listen> {
        let after = lines.iter().map(|line| format!("Listen {line}")).collect();
        let sources = Sources {
            after,
            ..Sources::default()
        };
        load(&sources, &Machine).unwrap().listen
    }

    fn offered(sockets: &[(&str, &str)]) -> Vec<Offered<()>> {
        let sockets = sockets.iter().map(|(name, address)| Offered {
            name: (*name).to_owned(),
            address: address.parse().unwrap(),
            socket: (),
        });
        sockets.collect()
    }

    #[test]
    fn a_socket_is_found_by_its_name_before_its_address() {
        let sockets = offered(&[
            ("other.socket", "127.0.0.1:80"),
            ("127.0.0.1-80", "127.0.0.1:8080"),
            ("held-443", "0.0.0.0:444"),
            ("any", "0.0.0.0:81"),
            ("all", "[::]:81"),
            ("six", "[::1]:82"),
        ]);
        for (line, expected) in [
            ("127.0.0.1:80", Some(1)),
            ("443", Some(2)),
            ("81", Some(4)),
            ("0.0.0.0:81", Some(3)),
            ("[::1]:82", Some(5)),
            ("82", None),
            ("127.0.0.1:8080", Some(1)),
            ("127.0.0.2:80", None),
        ] {
            let listen = &listens(&[line])[0];
            assert_eq!(choose(listen, &sockets), expected, "{line}");
        }
    }

    #[test]
    fn names_have_no_colons() {
        let names: Vec<_> = listens(&["127.0.0.1:80", "[::1]:80", "80"])
            .iter()
            .map(name_of)
            .collect();
        assert_eq!(names, ["127.0.0.1-80", "[--1]-80", "80"]);
    }
}
