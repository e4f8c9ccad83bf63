//! Where the server is asked about itself, apart from what it serves: `Listen unix:`, `Listen ... status` and
//! `ControlSocketMode`.

use super::draft::Scope;
use super::{Listen, Origin};
use crate::route::url::LONGEST_SOCKET_PATH;
use std::path::PathBuf;

/// The control socket where the configuration names none.
pub const DEFAULT_SOCKET: &str = "/run/proxy-wstunnel/control.sock";

/// Where the server is asked about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// `Listen unix:`; at least one.
    pub sockets: Vec<ControlSocket>,
    /// `ControlSocketMode`: the permissions of those sockets, at most `0o777`.
    pub mode: u32,
    /// `Listen ... status`
    pub status: Vec<Listen>,
}

/// A control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSocket {
    /// The resolved path, short enough for an address.
    pub path: PathBuf,
    /// Where it was configured. None: nowhere, so it is [`DEFAULT_SOCKET`], and the server does without if need be.
    pub origin: Option<Origin>,
}

/// What is said so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) sockets: Vec<(PathBuf, Origin)>,
    pub(super) mode: u32,
    pub(super) status: Vec<Listen>,
}

impl Draft {
    pub(super) fn resolve(self) -> Control {
        let configured = self
            .sockets
            .into_iter()
            .map(|(path, origin)| ControlSocket {
                path,
                origin: Some(origin),
            });
        let mut sockets: Vec<ControlSocket> = configured.collect();
        if sockets.is_empty() {
            sockets.push(ControlSocket {
                path: DEFAULT_SOCKET.into(),
                origin: None,
            });
        }
        Control {
            sockets,
            mode: self.mode,
            status: self.status,
        }
    }
}

/// `Listen unix:path`
pub(super) fn listen(scope: &mut Scope<'_>, path: &str, more: &[&str]) -> Result<(), String> {
    if let [word, ..] = more {
        return Err(format!(
            "\"{word}\" behind a Unix socket, which has no protocol to choose; expected unix:path alone"
        ));
    }
    let path = scope.path(path)?;
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        return Err(format!(
            "\"{}\" has {length} bytes, and the path of a Unix socket at most {LONGEST_SOCKET_PATH}; choose a shorter one",
            path.display()
        ));
    }
    let sockets = &mut scope.program.control.sockets;
    if let Some((_, other)) = sockets.iter().find(|(known, _)| *known == path) {
        return Err(format!(
            "unix:{} is listened on already, at {other}",
            path.display()
        ));
    }
    sockets.push((path, scope.at.clone()));
    Ok(())
}

/// `ControlSocketMode`
pub(super) fn mode(scope: &mut Scope<'_>, text: &str) -> Result<(), String> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => mode,
        _ => {
            return Err(format!(
                "\"{text}\" is no mode; expected three octal digits, such as 0600 or 0660"
            ));
        }
    };
    if mode & 0o600 != 0o600 {
        return Err(format!(
            "{text} would keep the server's own user out; expected the bits of 0600 among it"
        ));
    }
    if mode & 0o002 != 0 {
        scope.warn(format!(
            "{text}: every user of this machine can read who is connected; 0660 admits a group"
        ));
    }
    scope.program.control.mode = mode;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, load_text};
    use super::*;

    #[test]
    fn there_is_always_a_control_socket() {
        let control = config("Listen 80\nProxyPass / ws://b/").control;
        let [socket] = control.sockets.as_slice() else {
            panic!("{control:?}");
        };
        assert_eq!(
            (socket.path.to_str(), socket.origin.as_ref()),
            (Some(DEFAULT_SOCKET), None)
        );
        assert_eq!((control.mode, control.status.len()), (0o600, 0));
    }

    #[test]
    fn sockets_and_status_listeners_serve_no_clients() {
        let config = config(
            "Listen unix:run/a.sock\nListen 80\nListen unix:/b.sock\nControlSocketMode 0660\n\
             Listen 127.0.0.1:81 Status\nProxyPass / ws://b/",
        );
        assert_eq!(config.listen.len(), 1);
        let sockets = config.control.sockets.iter();
        let paths: Vec<_> = sockets
            .map(|socket| socket.path.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["/etc/proxy-wstunnel/run/a.sock", "/b.sock"]);
        assert_eq!(config.control.mode, 0o660);
        let status: Vec<_> = config
            .control
            .status
            .iter()
            .map(Listen::to_string)
            .collect();
        assert_eq!(status, ["127.0.0.1:81"]);
    }

    #[test]
    fn a_server_that_only_tells_its_status_serves_nobody() {
        let errors =
            load_text("Listen 81 status\nListen unix:/a\nProxyPass / ws://b/").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].to_string().contains("there is none"),
            "{errors:?}"
        );
    }

    #[test]
    fn modes_are_octal_and_admit_the_owner() {
        for (text, expected) in [
            ("600", Some(0o600)),
            ("0640", Some(0o640)),
            ("0777", Some(0o777)),
        ] {
            let config = config(&format!(
                "Listen 80\nProxyPass / ws://b\nControlSocketMode {text}"
            ));
            assert_eq!(Some(config.control.mode), expected);
        }
        for text in [
            "0400", "060", "660 ", "0o600", "1600", "06000", "60", "8600", "rw", "+60", "0689",
        ] {
            let text = format!("Listen 80\nProxyPass / ws://b\nControlSocketMode \"{text}\"");
            assert!(load_text(&text).is_err(), "{text}");
        }
    }
}
