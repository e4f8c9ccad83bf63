//! To the one backend of a route, or to a member of its balancer; and to the next member where one fails.
//! httpd: mod_proxy.c `proxy_handler`, mod_proxy_balancer.c `proxy_balancer_pre_request`.

use super::failure::{Step, stopping};
use super::{End, Visit};
use crate::access_log::AccessLog;
use crate::balancer::{Balancer, Choice, Lease, Member, Meter, Session, Tried, Why};
use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use crate::ids::Id;
use crate::logging::Topic;
use crate::net::wait::Interrupted;
use crate::route::Route;
use crate::route::backend::Backend;
use crate::route::destination::Destination;
use crate::route::environment::Environment;
use log::Level;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often somebody looks for a member who waits for one: each hundredth of the time that it has, as httpd, but within
/// these bounds.
const LOOKS: u32 = 100;
const SOONEST: Duration = Duration::from_millis(1);
const LATEST: Duration = Duration::from_millis(20);

/// The way to one backend.
pub(super) struct Way<'r> {
    pub(super) backend: &'r Arc<Backend>,
    /// The line that leads there.
    pub(super) name: &'r Arc<str>,
    /// What the backend is asked for.
    pub(super) target: Cow<'r, str>,
}

/// The member that has the request, until that or its tunnel ends.
#[derive(Debug)]
pub(super) struct Elected {
    balancer: Arc<Balancer>,
    index: usize,
    lease: Lease,
}

/// What a failed attempt means for the next one.
enum Verdict {
    /// The member has seen nothing of the request, and others may do better. Whether it is set aside.
    Unseen { is_set_aside: bool },
    /// Perhaps it is the client that asks for too much. The member is not judged by it.
    Doubtful,
    /// The member may have seen the request.
    Seen,
    /// It is too late for another one.
    Over,
}

impl Elected {
    fn member(&self) -> Option<&Member> {
        self.balancer.members().get(self.index)
    }

    /// What is left of it where the request becomes a tunnel, and the name of the balancer.
    pub(super) fn into_lease(self) -> (Lease, Arc<str>) {
        (self.lease, Arc::clone(self.balancer.name()))
    }
}

impl Visit<'_> {
    /// Makes an attempt at the backend of a route; or at one member of its balancer after the other, until one does not
    /// fail. `is_repeatable`: asking for it twice is as asking once.
    pub(super) fn lead<'r, T>(
        &mut self,
        head: &RequestHead,
        route: &'r Route,
        is_repeatable: bool,
        mut attempt: impl FnMut(&mut Self, &Way<'r>) -> Result<T, End>,
    ) -> Result<T, End> {
        match &route.to {
            Destination::Backend(backend) => {
                let target = Cow::Borrowed(route.target.as_str());
                let name = &route.name;
                let way = Way {
                    backend,
                    name,
                    target,
                };
                attempt(self, &way)
            }
            Destination::Balancer { balancer, .. } => {
                let outcome = self.lead_to_member(head, route, balancer, is_repeatable, attempt);
                if let Err(End::BackendFailed(step, refusal)) = &outcome
                    && !matches!(verdict(*step), Verdict::Over)
                {
                    if refusal.id == Id::TooManyAtBackend {
                        self.say_all_full();
                    } else {
                        self.say_given_up(balancer, refusal);
                    }
                }
                outcome
            }
        }
    }

    /// A client gets an error only when nobody is left to ask. Who may have seen the request, or may have failed for what
    /// it asks, is followed by one other at most: no request can take one member after the other with it.
    #[inline(never)]
    fn lead_to_member<'r, T>(
        &mut self,
        head: &RequestHead,
        route: &'r Route,
        balancer: &'r Arc<Balancer>,
        is_repeatable: bool,
        mut attempt: impl FnMut(&mut Self, &Way<'r>) -> Result<T, End>,
    ) -> Result<T, End> {
        let mut tried = Tried::default();
        let mut may_follow = true;
        let mut failure = None;
        // Who has no room was not asked, so that was no attempt.
        let mut without_room = 0;
        loop {
            let elected = match self.elect(head, route, balancer, &tried)? {
                Ok(elected) => elected,
                Err(why) => return Err(failure.unwrap_or_else(|| self.no_member(balancer, why))),
            };
            let index = elected.index;
            let Some(member) = balancer.members().get(index) else {
                return Err(stopping());
            };
            self.elected = Some(elected);
            let backend = &member.backend;
            self.transaction.backend = Some(Arc::clone(backend));
            let way = Way {
                backend,
                name: &route.name,
                target: Cow::Owned(backend.url.below(&route.target)),
            };
            self.debug(
                Topic::Balancer,
                format_args!("{}: member {}", balancer.name(), member.name()),
            );
            let (step, refusal) = match attempt(self, &way) {
                Err(End::BackendFailed(step, refusal)) => (step, refusal),
                outcome => return outcome,
            };
            let goes_on = match verdict(step) {
                Verdict::Unseen { is_set_aside } => {
                    if is_set_aside && member.failed(Instant::now()) {
                        self.say_set_aside(balancer, member, format_args!("{}", refusal.why));
                    }
                    true
                }
                Verdict::Doubtful => std::mem::take(&mut may_follow),
                Verdict::Seen => {
                    let timed_out = refusal.id == Id::AnswerTimeout;
                    self.judge(refusal.status, timed_out);
                    is_repeatable && std::mem::take(&mut may_follow)
                }
                Verdict::Over => false,
            };
            tried.add(index);
            without_room += usize::from(refusal.id == Id::TooManyAtBackend);
            let end = End::BackendFailed(step, refusal);
            if !goes_on || tried.count() - without_room > balancer.max_attempts() {
                return Err(end);
            }
            failure = Some(end);
            self.leave_backend();
            self.turn = None;
            self.elected = None;
        }
    }

    /// Chooses a member, and waits for one where there is none and the balancer allows that.
    fn elect(
        &mut self,
        head: &RequestHead,
        route: &Route,
        balancer: &Arc<Balancer>,
        tried: &Tried,
    ) -> Result<Result<Elected, Why>, End> {
        let asked = Session {
            target: &route.target,
            headers: &head.headers,
        };
        let patience = balancer.settings.timeout;
        let mut until = None;
        loop {
            let now = Instant::now();
            let why = match balancer.choose(&asked, tried, now) {
                Ok(choice) => {
                    self.tell_variables(&choice);
                    return Ok(Ok(Elected {
                        balancer: Arc::clone(balancer),
                        index: choice.index,
                        lease: choice.lease,
                    }));
                }
                Err(why) => why,
            };
            let until = *until.get_or_insert(now + patience);
            let is_hopeless = why == Why::SessionBound || tried.count() >= balancer.members().len();
            if is_hopeless || now >= until {
                return Ok(Err(why));
            }
            // Others need not wait for a request that does.
            self.handshake = None;
            let step = (patience / LOOKS).clamp(SOONEST, LATEST);
            self.pass_time(until.min(now + step), balancer.is_tunnel())?;
        }
    }

    /// Waits, and takes meanwhile what a client sends that asks for a tunnel; if it goes away, the wait is over.
    fn pass_time(&mut self, until: Instant, is_tunnel: bool) -> Result<(), End> {
        let woken = if is_tunnel && self.has_room_for_early() {
            let client = [self.link.client.waits_to_read()];
            self.tools
                .waiter
                .wait(client, Some(until))
                .map(|[is_ready]| is_ready)
        } else {
            self.tools.waiter.wait([], Some(until)).map(|[]| false)
        };
        match woken {
            Ok(true) => self.take_early(),
            Ok(false) | Err(Interrupted::Deadline) => Ok(()),
            Err(Interrupted::Cancelled) => Err(stopping()),
            Err(Interrupted::Failed(why)) => Err(End::Gone(why.to_string())),
        }
    }

    /// The request's environment says who was chosen; of an attempt before, nothing stays in it.
    fn tell_variables(&mut self, choice: &Choice<'_>) {
        for name in Choice::VARIABLES {
            self.environment.unset(name);
        }
        for (name, value) in choice.variables() {
            self.environment.set(name, value);
        }
        self.note_environment();
    }

    /// Keeps of the environment what an access log looks at.
    pub(super) fn note_environment(&mut self) {
        let logs = &self.site.logs.access;
        let is_logged = |name: &str| logs.iter().any(|log: &AccessLog| log.needs_variable(name));
        let environment = self.environment.only(is_logged);
        if self.transaction.noted().is_some() || environment != Environment::default() {
            self.transaction.note().environment = environment;
        }
    }

    fn no_member(&self, balancer: &Balancer, why: Why) -> End {
        let id = Id::NoMember;
        if let Some(mapping) = &self.transaction.mapping {
            let name = balancer.name();
            self.log(
                Topic::Balancer,
                Level::Warn,
                format_args!("{id} {mapping}: {name}: {why} (503); {}", id.remedy()),
            );
        }
        End::Failed(Refusal::new(id, why.to_string()))
    }

    /// What the client is told, after the lines about each member that failed.
    fn say_given_up(&self, balancer: &Balancer, refusal: &Refusal) {
        let Refusal { id, status, .. } = refusal;
        if let Some(mapping) = &self.transaction.mapping {
            let name = balancer.name();
            self.log(
                Topic::Balancer,
                Level::Warn,
                format_args!(
                    "{id} {mapping}: {name}: no other member is tried ({status}); {}",
                    id.remedy()
                ),
            );
        }
    }

    fn say_set_aside(&self, balancer: &Balancer, member: &Member, why: fmt::Arguments<'_>) {
        let id = Id::SetAside;
        let (name, url, retry) = (balancer.name(), member.name(), member.terms.retry);
        if retry.is_zero() {
            // The next request may try it.
            return;
        }
        self.log(
            Topic::Balancer,
            Level::Warn,
            format_args!(
                "{id} {name}: member {url} is set aside for {retry:?}: {why}; {}",
                id.remedy()
            ),
        );
    }

    /// What the backend answered, or what we did in its place: some balancers do not like it.
    pub(super) fn judge(&self, status: u16, timed_out: bool) {
        let Some(elected) = &self.elected else { return };
        if let Some(member) = elected.member()
            && elected
                .balancer
                .judge(member, Some(status), timed_out, Instant::now())
        {
            let balancer = &elected.balancer;
            if timed_out {
                self.say_set_aside(balancer, member, format_args!("no answer in time"));
            } else {
                self.say_set_aside(balancer, member, format_args!("the status is {status}"));
            }
        }
    }

    /// There is a new connection to the backend.
    pub(super) fn backend_lives(&self) {
        let Some(elected) = &self.elected else { return };
        if let Some(member) = elected.member()
            && member.succeeded()
        {
            let (name, url) = (elected.balancer.name(), member.name());
            self.log(
                Topic::Balancer,
                Level::Info,
                format_args!("{name}: member {url} takes connections again"),
            );
        }
    }

    /// So many bytes came from the backend.
    pub(super) fn count_received(&self, bytes: usize) {
        if let Some(elected) = &self.elected {
            elected.lease.meter().received(bytes as u64);
        }
    }

    /// So many bytes went to it.
    pub(super) fn count_sent(&self, bytes: usize) {
        if let Some(elected) = &self.elected {
            elected.lease.meter().sent(bytes as u64);
        }
    }

    /// What counts the bytes of the member.
    pub(super) fn meter(&self) -> Option<Meter> {
        let elected = self.elected.as_ref()?;
        Some(elected.lease.meter().clone())
    }
}

fn verdict(step: Step) -> Verdict {
    match step {
        Step::Acquire => Verdict::Unseen {
            is_set_aside: false,
        },
        Step::TlsByName => Verdict::Doubtful,
        Step::Resolve | Step::Connect | Step::Tls | Step::Ping => {
            Verdict::Unseen { is_set_aside: true }
        }
        Step::Handshake | Step::Request | Step::Answer => Verdict::Seen,
        Step::Relay => Verdict::Over,
    }
}
