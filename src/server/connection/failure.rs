//! The steps towards a backend, and what is said when one fails: one line in the log, and an answer that names no backend.

use super::{End, Visit};
use crate::http::answer::Refusal;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::wait::Interrupted;
use log::Level;
use std::fmt;

/// The steps towards a backend, as the logs call them.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// There is a turn to be had at the backend.
    Acquire,
    Resolve,
    Connect,
    Tls,
    /// TLS, with a name that the client chose, whose fault it may be.
    TlsByName,
    Handshake,
    /// The backend shows that it is there before it gets a request's body.
    Ping,
    /// The backend takes an ordinary request with its body.
    Request,
    /// It answers that.
    Answer,
    /// An answer that is no 101 is passed on.
    Relay,
}

impl Step {
    /// What is said when it was not completed in time.
    fn too_late(self) -> Id {
        match self {
            Self::Acquire => Id::Busy,
            Self::Resolve | Self::Connect => Id::ConnectTimeout,
            Self::Tls | Self::TlsByName => Id::TlsTimeout,
            Self::Ping => Id::Unreachable,
            Self::Handshake | Self::Request | Self::Answer => Id::AnswerTimeout,
            Self::Relay => Id::CutShort,
        }
    }

    /// What is said when it failed for another reason, and that has no number of its own.
    fn failed(self) -> Id {
        match self {
            Self::Acquire => Id::Busy,
            Self::Resolve => Id::Unresolved,
            Self::Connect => Id::Unreachable,
            Self::Tls | Self::TlsByName => Id::TlsFailed,
            Self::Handshake | Self::Ping | Self::Request | Self::Answer => Id::Closed,
            Self::Relay => Id::CutShort,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acquire => "acquire",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls | Self::TlsByName => "tls",
            Self::Handshake => "handshake",
            Self::Ping => "ping",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Relay => "relay",
        })
    }
}

impl Visit<'_> {
    /// A step towards a backend was not completed: by its deadline, by a failure, or because we stop.
    pub(super) fn step_failed(&self, step: Step, why: &Interrupted) -> End {
        match why {
            Interrupted::Cancelled => stopping(),
            Interrupted::Deadline => self.backend_failed(step, step.too_late(), why),
            Interrupted::Failed(_) => self.backend_failed(step, step.failed(), why),
        }
    }

    /// The backend failed us before the client has got anything. What the client is told names no backend.
    pub(super) fn backend_failed(&self, step: Step, failure: Id, why: &dyn fmt::Display) -> End {
        let refusal = Refusal::new(failure, why.to_string());
        if self.elected.is_some() {
            // Another member may do better, so what the client is told is said when nobody is left.
            self.log_failure(step, failure, why);
        } else {
            self.log_failure(step, failure, &format_args!("{why} ({})", refusal.status));
        }
        End::BackendFailed(step, refusal)
    }

    /// The same where the fault is not the backend's, or nobody can tell whose it is: it is not judged by that, and no
    /// other one is asked.
    pub(super) fn blameless_failure(&self, step: Step, failure: Id, why: &dyn fmt::Display) -> End {
        let refusal = Refusal::new(failure, why.to_string());
        self.log_failure(step, failure, &format_args!("{why} ({})", refusal.status));
        End::Failed(refusal)
    }

    /// The one log line of a backend that failed.
    pub(super) fn log_failure(&self, step: Step, id: Id, why: &dyn fmt::Display) {
        let transaction = &self.transaction;
        if let (Some(mapping), Some(backend)) = (&transaction.mapping, &transaction.backend) {
            let backend = &backend.url;
            self.log(
                Topic::Proxy,
                Level::Warn,
                format_args!("{id} {mapping}: {backend}: {step}: {why}; {}", id.remedy()),
            );
        }
    }
}

/// What a client is told that waited for a backend when the server stopped.
pub(super) fn stopping() -> End {
    End::Failed(Refusal::new(Id::Stopping, "the server is stopping"))
}
