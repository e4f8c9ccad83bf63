//! The numbers of our messages. They stay the same when the words change, so that people can search for them: log lines
//! and error bodies carry them, and the manual lists them with what to do.

use std::fmt;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Id {
    // What a request says.
    /// A request head that is not HTTP, or that two readers could read in two ways.
    BadHead,
    /// A request line longer than `LimitRequestLine`.
    LineTooLong,
    /// Header fields longer or more than their limits.
    FieldsTooLarge,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    BadVersion,
    /// A request to be a forward proxy.
    Connect,
    /// The head took longer than `RequestReadTimeout` allows.
    HeadTimeout,
    /// The connection ended inside the head.
    HeadCut,
    /// No header of the PROXY protocol where one has to be.
    BadProxyHeader,
    /// A body whose framing is broken.
    BadBody,
    /// A body larger than `LimitRequestBody`, or one where there must be none.
    BodyTooLarge,
    /// The body took longer than `RequestReadTimeout` allows.
    BodyTimeout,
    /// An `Expect` that nobody knows.
    BadExpectation,
    /// A body of unknown length for a backend that has to know it.
    LengthRequired,
    /// `TRACE`, where `TraceEnable` is Off.
    TraceOff,
    /// `Max-Forwards` has come to its end.
    NoHopsLeft,
    /// Plain HTTP on an address of TLS.
    PlainHttp,
    /// The request is for a host whose terms of TLS its connection was not made on.
    Misdirected,
    /// A method other than GET and HEAD for what this program answers itself.
    WrongMethod,
    // Where it goes.
    /// Nothing is mapped at the path.
    NotMapped,
    /// A path that is malformed or climbs above its root.
    BadPath,
    /// An encoded slash or NUL in the path.
    HiddenByte,
    /// A blank or a control character in what the backend would be asked for.
    BadTarget,
    /// `Require`, or `Allow` and `Deny`, do not permit the client.
    Denied,
    /// A rule with the flag F.
    Forbidden,
    /// A rule with the flag G.
    Gone,
    /// A rule leads to a file, and no files are served.
    LocalFile,
    /// What a rule or a pattern makes of the request is too long, or has no end.
    TooLong,
    /// A rule with the flag R: a redirection, or another status that it names.
    Redirected,
    // What is asked of the upgrade.
    /// The request does not ask for the upgrade that its mapping gives.
    UpgradeRequired,
    /// It asks for it in a way that must not be passed on.
    BadUpgrade,
    // How many may have one.
    /// There are as many tunnels as `ProxyWebsocketMaxTunnels` allows.
    TooManyTunnels,
    /// The host has as many as `ProxyWebsocketMaxTunnelsPerHost` allows.
    TooManyOfHost,
    /// The backend has as many as `ProxyWebsocketMaxTunnelsPerBackend` allows, and so has each that could take its place.
    TooManyAtBackend,
    /// The client's address has as many as `ProxyWebsocketMaxTunnelsPerAddress` allows.
    TooManyOfAddress,
    /// The client's address asks more often than `ProxyWebsocketHandshakeRate` allows.
    TooOften,
    // What the backend does.
    /// The backend is disabled by `status=`.
    Disabled,
    /// The backend has as many tunnels as `max=` allows, and none ended within `acquire=`.
    Busy,
    /// The backend's name has no address.
    Unresolved,
    /// No address of the backend takes the connection.
    Unreachable,
    /// No address of the backend takes the connection in time.
    ConnectTimeout,
    /// The TLS handshake with the backend failed, or its certificate is not to be trusted.
    TlsFailed,
    /// The TLS handshake with the backend took too long.
    TlsTimeout,
    /// The backend ended the connection before its answer was complete.
    Closed,
    /// The backend's answer is not HTTP, or not such that everybody reads it alike.
    Garbage,
    /// The backend did not answer in time.
    AnswerTimeout,
    /// The backend said 101, but not to what was asked.
    BadSwitch,
    /// The backend gave an ordinary answer instead of a 101; it was passed on.
    NoSwitch,
    /// The backend answered 403 to an `Origin` that differs from the `Host` that we sent.
    OriginRefused,
    /// The backend failed inside the body of an ordinary answer.
    CutShort,
    /// The backend answered with an error, and ProxyErrorOverride put ours in its place.
    Overridden,
    /// No member of a balancer can take a request.
    NoMember,
    /// A member of a balancer is left alone for a while after an error.
    SetAside,
    /// A member of a balancer does not pass its health check; nobody is sent to it.
    Unhealthy,
    /// It passes again, and is used.
    Healthy,
    /// The backend ended a WebSocket without a Close frame.
    Died,
    // What happens to the server.
    /// There is no TLS with a client.
    ClientTls,
    /// A certificate of ours ends soon, or has ended.
    CertificateEnds,
    /// A reload has failed: the configuration from before stays in force.
    NotReloaded,
    /// What a reload has found changed takes a restart.
    TakesRestart,
    /// The service manager has named a socket to be told by, and cannot be told.
    Unmanaged,
    /// The acceptor does not answer, and the watchdog is not fed.
    Hung,
    /// The service manager has passed a socket that is not listened on.
    NotListenedOn,
    /// Another process was to take over, and has not.
    NotUpgraded,
    /// A process that has taken over cannot make its PidFile.
    NoPidFile,
    /// The limit of open files is lower than what the other limits come to.
    TooFewDescriptors,
    /// `User` names somebody whom only root could become.
    NotRoot,
    /// What was opened as root could not be opened again, as a reload has to.
    OutOfReach,
    /// The server is stopping.
    Stopping,
    /// All workers are busy; new connections wait.
    WorkersBusy,
    /// There are no descriptors left; accepting pauses.
    NoDescriptors,
    /// A worker cannot be started.
    NoWorker,
    /// A worker or reactor panicked, which is a bug; its connection is cut, no other.
    Panicked,
    /// A thread cannot wait for events; its tunnels are cut.
    CannotWait,
    /// No reactor takes a tunnel; it stays in its worker.
    NotTaken,
    /// Tunnels did not end in time when the server stopped, and are cut.
    CutAtStop,
    /// A log file cannot be reopened; the old one is written on.
    LogNotReopened,
    /// Log lines were lost: they came faster than they could be written, or could not be written.
    LinesLost,
    /// The PidFile cannot be removed.
    PidFileStays,
    /// A log cannot be written.
    LogNotWritten,
    /// There is no control socket, or not as it should be.
    NoControlSocket,
    /// Out of memory for one tunnel, which is cut, and no other.
    OutOfMemory,
}

/// What is known of a message beside its words.
#[derive(Debug)]
struct Entry {
    id: Id,
    code: &'static str,
    /// The number of httpd's message about the same, where it has one.
    counterpart: Option<&'static str>,
    remedy: &'static str,
}

impl Id {
    /// All of them, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(|entry| entry.id)
    }

    /// `PW101`
    pub fn code(self) -> &'static str {
        self.entry().map_or("PW000", |entry| entry.code)
    }

    /// The number of httpd's message about the same, such as `AH00566`.
    pub fn counterpart(self) -> Option<&'static str> {
        self.entry().and_then(|entry| entry.counterpart)
    }

    /// What to do about it, in the manner of log lines.
    pub fn remedy(self) -> &'static str {
        self.entry().map_or("", |entry| entry.remedy)
    }

    fn entry(self) -> Option<&'static Entry> {
        ENTRIES.iter().find(|entry| entry.id == self)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

const ENTRIES: &[Entry] = &[
    Entry {
        id: Id::BadHead,
        code: "PW101",
        counterpart: Some("AH00566"),
        remedy: "the client has to send a head as RFC 9112 says",
    },
    Entry {
        id: Id::LineTooLong,
        code: "PW102",
        counterpart: Some("AH00565"),
        remedy: "raise LimitRequestLine if such requests are meant",
    },
    Entry {
        id: Id::FieldsTooLarge,
        code: "PW103",
        counterpart: Some("AH00561"),
        remedy: "raise LimitRequestFieldSize or LimitRequestFields if such requests are meant",
    },
    Entry {
        id: Id::BadVersion,
        code: "PW104",
        counterpart: Some("AH02418"),
        remedy: "the client has to speak HTTP/1.1",
    },
    Entry {
        id: Id::Connect,
        code: "PW105",
        counterpart: Some("AH00131"),
        remedy: "this program goes where it is told; clients need no proxy setting for it",
    },
    Entry {
        id: Id::HeadTimeout,
        code: "PW106",
        counterpart: Some("AH01382"),
        remedy: "raise RequestReadTimeout header= if clients are that slow",
    },
    Entry {
        id: Id::HeadCut,
        code: "PW107",
        counterpart: None,
        remedy: "nothing; the client went away",
    },
    Entry {
        id: Id::BadProxyHeader,
        code: "PW108",
        counterpart: Some("AH03497"),
        remedy: "let the load balancer send one, or name those that send none in RemoteIPProxyProtocolExceptions",
    },
    Entry {
        id: Id::BadBody,
        code: "PW109",
        counterpart: Some("AH01590"),
        remedy: "the client has to frame its body as RFC 9112 says",
    },
    Entry {
        id: Id::BodyTooLarge,
        code: "PW110",
        counterpart: Some("AH01588"),
        remedy: "raise LimitRequestBody if such requests are meant",
    },
    Entry {
        id: Id::BodyTimeout,
        code: "PW111",
        counterpart: Some("AH01382"),
        remedy: "raise RequestReadTimeout body= if clients are that slow",
    },
    Entry {
        id: Id::BadExpectation,
        code: "PW112",
        counterpart: Some("AH00570"),
        remedy: "100-continue is the only expectation there is",
    },
    Entry {
        id: Id::LengthRequired,
        code: "PW113",
        counterpart: None,
        remedy: "take proxy-sendcl and force-proxy-request-1.0 away if the backend can read chunks",
    },
    Entry {
        id: Id::TraceOff,
        code: "PW114",
        counterpart: None,
        remedy: "set TraceEnable On if such requests are meant",
    },
    Entry {
        id: Id::NoHopsLeft,
        code: "PW115",
        counterpart: Some("AH01140"),
        remedy: "see whether proxies lead to each other in a circle",
    },
    Entry {
        id: Id::PlainHttp,
        code: "PW116",
        counterpart: Some("AH02219"),
        remedy: "write https:// or wss:// in the address, or SSLEngine Off where no TLS is meant",
    },
    Entry {
        id: Id::Misdirected,
        code: "PW117",
        counterpart: Some("AH02032"),
        remedy: "hosts that share connections need the same SSLProtocol, SSLCipherSuite and SSLVerifyClient; else the client \
                 has to open another connection",
    },
    Entry {
        id: Id::WrongMethod,
        code: "PW118",
        counterpart: None,
        remedy: "a status is only looked at, with GET or HEAD",
    },
    Entry {
        id: Id::NotMapped,
        code: "PW201",
        counterpart: Some("AH00128"),
        remedy: "write a ProxyPass for it; --explain tells what was tried",
    },
    Entry {
        id: Id::BadPath,
        code: "PW202",
        counterpart: Some("AH10244"),
        remedy: "the client has to send a path as RFC 3986 says",
    },
    Entry {
        id: Id::HiddenByte,
        code: "PW203",
        counterpart: Some("AH00026"),
        remedy: "set AllowEncodedSlashes if encoded slashes are meant",
    },
    Entry {
        id: Id::BadTarget,
        code: "PW204",
        counterpart: Some("AH10419"),
        remedy: "see which rule decodes what the client sent, and leave it encoded",
    },
    Entry {
        id: Id::Denied,
        code: "PW205",
        counterpart: Some("AH01630"),
        remedy: "add its address to Require ip or Allow from if it shall connect",
    },
    Entry {
        id: Id::Forbidden,
        code: "PW206",
        counterpart: None,
        remedy: "see the RewriteRule",
    },
    Entry {
        id: Id::Gone,
        code: "PW207",
        counterpart: None,
        remedy: "see the RewriteRule",
    },
    Entry {
        id: Id::LocalFile,
        code: "PW208",
        counterpart: Some("AH00128"),
        remedy: "add [P] and a URL to the rule, or [PT] if a ProxyPass is to see the new path",
    },
    Entry {
        id: Id::TooLong,
        code: "PW209",
        counterpart: None,
        remedy: "see the rule; it repeats itself",
    },
    Entry {
        id: Id::Redirected,
        code: "PW210",
        counterpart: None,
        remedy: "see the RewriteRule",
    },
    Entry {
        id: Id::UpgradeRequired,
        code: "PW301",
        counterpart: Some("AH02900"),
        remedy: "let the client open a WebSocket; for pages of the same path use RewriteCond %{HTTP:Upgrade}; a proxy in front has to pass Upgrade and Connection on",
    },
    Entry {
        id: Id::BadUpgrade,
        code: "PW302",
        counterpart: None,
        remedy: "the client has to ask as RFC 6455 section 4.1 says",
    },
    Entry {
        id: Id::TooManyTunnels,
        code: "PW303",
        counterpart: None,
        remedy: "raise ProxyWebsocketMaxTunnels if there are memory and descriptors for more",
    },
    Entry {
        id: Id::TooManyOfHost,
        code: "PW304",
        counterpart: None,
        remedy: "raise ProxyWebsocketMaxTunnelsPerHost if the host is to have more",
    },
    Entry {
        id: Id::TooManyAtBackend,
        code: "PW305",
        counterpart: None,
        remedy: "raise ProxyWebsocketMaxTunnelsPerBackend if the backend can take more, or add members to its balancer",
    },
    Entry {
        id: Id::TooManyOfAddress,
        code: "PW306",
        counterpart: None,
        remedy: "raise ProxyWebsocketMaxTunnelsPerAddress if one address may have more; name a proxy in front by RemoteIPHeader \
                 or RemoteIPProxyProtocol, so that its clients are told apart",
    },
    Entry {
        id: Id::TooOften,
        code: "PW307",
        counterpart: None,
        remedy: "wait as Retry-After says; raise ProxyWebsocketHandshakeRate if clients are to ask more often",
    },
    Entry {
        id: Id::Disabled,
        code: "PW401",
        counterpart: Some("AH00940"),
        remedy: "take status=+D away when it is back",
    },
    Entry {
        id: Id::Busy,
        code: "PW402",
        counterpart: Some("AH00941"),
        remedy: "raise max= or acquire=",
    },
    Entry {
        id: Id::Unresolved,
        code: "PW403",
        counterpart: None,
        remedy: "see that the name is right and the resolver works",
    },
    Entry {
        id: Id::Unreachable,
        code: "PW404",
        counterpart: Some("AH00957"),
        remedy: "see that the backend listens there, and that no firewall is in the way",
    },
    Entry {
        id: Id::ConnectTimeout,
        code: "PW405",
        counterpart: Some("AH00957"),
        remedy: "see that no firewall drops packets; connectiontimeout= is the limit",
    },
    Entry {
        id: Id::TlsFailed,
        code: "PW406",
        counterpart: Some("AH01961"),
        remedy: "see SSLProxyCACertificateFile and the backend's certificate; ws:// if it speaks no TLS",
    },
    Entry {
        id: Id::TlsTimeout,
        code: "PW407",
        counterpart: None,
        remedy: "see that the backend speaks TLS on this port; timeout= is the limit",
    },
    Entry {
        id: Id::Closed,
        code: "PW408",
        counterpart: Some("AH01102"),
        remedy: "see the backend's own log",
    },
    Entry {
        id: Id::Garbage,
        code: "PW409",
        counterpart: Some("AH01106"),
        remedy: "see that the backend speaks HTTP/1.1 on this port, and plain or TLS as the URL says",
    },
    Entry {
        id: Id::AnswerTimeout,
        code: "PW410",
        counterpart: Some("AH01103"),
        remedy: "see what the backend waits for; timeout= is the limit",
    },
    Entry {
        id: Id::BadSwitch,
        code: "PW411",
        counterpart: None,
        remedy: "see that the backend speaks WebSocket, and what stands between it and here",
    },
    Entry {
        id: Id::NoSwitch,
        code: "PW412",
        counterpart: None,
        remedy: "see why the backend refuses: its path, its Origin check, its log",
    },
    Entry {
        id: Id::OriginRefused,
        code: "PW413",
        counterpart: None,
        remedy: "try ProxyPreserveHost On, so that the backend sees the name that the page was loaded from",
    },
    Entry {
        id: Id::CutShort,
        code: "PW414",
        counterpart: None,
        remedy: "see the backend's own log",
    },
    Entry {
        id: Id::Overridden,
        code: "PW415",
        counterpart: None,
        remedy: "see the backend's own log",
    },
    Entry {
        id: Id::NoMember,
        code: "PW416",
        counterpart: Some("AH01171"),
        remedy: "see which of its members are set aside, unhealthy, disabled or full",
    },
    Entry {
        id: Id::SetAside,
        code: "PW417",
        counterpart: Some("AH00959"),
        remedy: "requests go to the other members meanwhile",
    },
    Entry {
        id: Id::Unhealthy,
        code: "PW418",
        counterpart: Some("AH03303"),
        remedy: "see the member and its log; it is used again when it passes hcpasses= checks",
    },
    Entry {
        id: Id::Healthy,
        code: "PW419",
        counterpart: Some("AH03302"),
        remedy: "nothing",
    },
    Entry {
        id: Id::Died,
        code: "PW420",
        counterpart: None,
        remedy: "see whether the backend has died, by its own log; one that lives has to send Close before it ends",
    },
    Entry {
        id: Id::Stopping,
        code: "PW501",
        counterpart: None,
        remedy: "nothing",
    },
    Entry {
        id: Id::WorkersBusy,
        code: "PW502",
        counterpart: Some("AH00484"),
        remedy: "raise MaxRequestWorkers, or set ProxyWebsocketAsync On",
    },
    Entry {
        id: Id::NoDescriptors,
        code: "PW503",
        counterpart: Some("AH02177"),
        remedy: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
    },
    Entry {
        id: Id::NoWorker,
        code: "PW504",
        counterpart: None,
        remedy: "see the limits of threads and of memory",
    },
    Entry {
        id: Id::Panicked,
        code: "PW505",
        counterpart: None,
        remedy: "report it with the line",
    },
    Entry {
        id: Id::CannotWait,
        code: "PW506",
        counterpart: None,
        remedy: "see the limits of descriptors and of memory",
    },
    Entry {
        id: Id::NotTaken,
        code: "PW507",
        counterpart: None,
        remedy: "raise ProxyWebsocketAsyncMaxTunnels",
    },
    Entry {
        id: Id::CutAtStop,
        code: "PW508",
        counterpart: None,
        remedy: "nothing",
    },
    Entry {
        id: Id::LogNotReopened,
        code: "PW509",
        counterpart: None,
        remedy: "see the folder's owner and permissions",
    },
    Entry {
        id: Id::LinesLost,
        code: "PW510",
        counterpart: None,
        remedy: "write fewer of them, or to a faster disk",
    },
    Entry {
        id: Id::PidFileStays,
        code: "PW511",
        counterpart: None,
        remedy: "remove it by hand",
    },
    Entry {
        id: Id::ClientTls,
        code: "PW512",
        counterpart: Some("AH02008"),
        remedy: "see what the client speaks and whether it trusts the certificate's authority; where clients show certificates, \
                 see SSLVerifyClient, SSLVerifyDepth and SSLCACertificateFile",
    },
    Entry {
        id: Id::CertificateEnds,
        code: "PW513",
        counterpart: None,
        remedy: "renew it, and reload the server",
    },
    Entry {
        id: Id::LogNotWritten,
        code: "PW514",
        counterpart: None,
        remedy: "see whether the disk is full, and whether the collector of syslog runs; lines are lost until then",
    },
    Entry {
        id: Id::OutOfMemory,
        code: "PW515",
        counterpart: None,
        remedy: "give it more memory, or lower ProxyWebsocketMaxTunnels",
    },
    Entry {
        id: Id::NotReloaded,
        code: "PW601",
        counterpart: None,
        remedy: "mend the configuration and reload again",
    },
    Entry {
        id: Id::TakesRestart,
        code: "PW602",
        counterpart: None,
        remedy: "restart the server to have it changed",
    },
    Entry {
        id: Id::Unmanaged,
        code: "PW603",
        counterpart: None,
        remedy: "see NOTIFY_SOCKET, and NotifyAccess= of the unit",
    },
    Entry {
        id: Id::Hung,
        code: "PW604",
        counterpart: None,
        remedy: "report it; the watchdog restarts the server",
    },
    Entry {
        id: Id::NotListenedOn,
        code: "PW605",
        counterpart: None,
        remedy: "write a Listen for it, or take it out of the socket unit",
    },
    Entry {
        id: Id::NotUpgraded,
        code: "PW606",
        counterpart: None,
        remedy: "see what the program at that place says to -t",
    },
    Entry {
        id: Id::NoPidFile,
        code: "PW607",
        counterpart: None,
        remedy: "see who may write to its folder; until a restart, -k does not find this process",
    },
    Entry {
        id: Id::NoControlSocket,
        code: "PW608",
        counterpart: None,
        remedy: "name another path by Listen unix:",
    },
    Entry {
        id: Id::TooFewDescriptors,
        code: "PW609",
        counterpart: None,
        remedy: "raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn), or lower the others",
    },
    Entry {
        id: Id::NotRoot,
        code: "PW610",
        counterpart: None,
        remedy: "start it as root, or as that user and remove the line",
    },
    Entry {
        id: Id::OutOfReach,
        code: "PW611",
        counterpart: None,
        remedy: "let the user of the server read the file, or write to the folder",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_that_of_one_message() {
        let mut codes: Vec<&str> = Id::all().map(Id::code).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), ENTRIES.len());
        for id in Id::all() {
            assert!(!id.remedy().is_empty() && id.code().len() == 5, "{id:?}");
        }
    }
}
