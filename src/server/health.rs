//! Health checks: threads that ask the members of balancers from time to time, so that no client has to find out which of
//! them are ill. httpd: `mod_proxy_hcheck`.
//!
//! What is asked and what an answer means stands in [`crate::balancer::health`].

mod probe;
mod schedule;

use super::Site;
use crate::balancer::health::Check;
use crate::balancer::{Balancer, Flag, Member, News};
use crate::error_log;
use crate::ids::Id;
use crate::net::connect::Options;
use crate::net::resolve::Resolver;
use crate::net::tls::Connector;
use crate::net::wait::{Cancel, Waiter};
use log::{debug, error, warn};
use probe::{Failure, Tools, probe};
use schedule::Schedule;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The first checks begin within this, one after the other.
const SPREAD: Duration = Duration::from_secs(1);

/// A member whose health is checked, and what its host says about connecting to it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) balancer: Arc<Balancer>,
    /// Which of its members it is.
    pub(super) index: usize,
    /// `timeout=`, `ProxyTimeout` or `Timeout`.
    pub(super) timeout: Duration,
    /// `connectiontimeout=`, or as `timeout`.
    pub(super) connect_timeout: Duration,
    pub(super) options: Options,
    /// Where it speaks TLS.
    pub(super) tls: Option<Connector>,
}

/// Every member whose health is to be checked, with what the host says where it is configured.
pub(super) fn targets<'s>(sites: impl Iterator<Item = &'s Arc<Site>>) -> Vec<Target> {
    let of_site = |site: &'s Arc<Site>| {
        let balancers = site.host.balancers.iter();
        balancers.flat_map(move |balancer| {
            let numbers = 0..balancer.members().len();
            numbers.filter_map(move |index| Target::new(site, balancer, index))
        })
    };
    sites.flat_map(of_site).collect()
}

/// How many threads there may be, and with how much stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// `ProxyHCTPsize`; 0 counts as 1.
    pub(super) threads: usize,
    /// `ThreadStackSize`, bytes.
    pub(super) stack: usize,
}

/// The threads that check. Their descriptors: a timer each, and the connection to a member.
#[derive(Debug)]
pub(super) struct Health {
    schedule: Arc<Schedule>,
    cancel: Arc<Cancel>,
    threads: Vec<JoinHandle<()>>,
}

impl Health {
    /// Begins to check each target that has a check. One thread serves one member at a time, so with fewer threads than
    /// members some wait for those that hang.
    pub(super) fn start(
        mut targets: Vec<Target>,
        size: Size,
        resolver: &Resolver,
    ) -> io::Result<Self> {
        targets.retain(|target| target.subject().is_some());
        let mut health = Self {
            schedule: Arc::default(),
            cancel: Arc::new(Cancel::new()?),
            threads: Vec::new(),
        };
        let subjects = targets.iter().filter_map(Target::subject);
        let count = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
        let now = Instant::now();
        for (nth, (number, (_, check))) in (0..).zip(subjects.enumerate()) {
            let step = SPREAD.min(check.interval) / count;
            health.schedule.put(number, now + step * nth);
        }
        let targets = Arc::new(targets);
        for number in 0..targets.len().min(size.threads.max(1)) {
            let started = health.start_thread(number, size.stack, &targets, resolver);
            if let Err(error) = started {
                health.stop();
                return Err(error);
            }
        }
        Ok(health)
    }

    fn start_thread(
        &mut self,
        number: usize,
        stack: usize,
        targets: &Arc<Vec<Target>>,
        resolver: &Resolver,
    ) -> io::Result<()> {
        let mut tools = Tools {
            waiter: Waiter::new(Arc::clone(&self.cancel))?,
            resolver: resolver.clone(),
        };
        let (schedule, targets) = (Arc::clone(&self.schedule), Arc::clone(targets));
        let thread = thread::Builder::new()
            .name(format!("health {number}"))
            .stack_size(stack)
            .spawn(move || {
                while let Some(number) = schedule.next() {
                    let again = targets.get(number).and_then(|it| it.visit(&mut tools));
                    if let Some(again) = again {
                        schedule.put(number, again);
                    }
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends the threads: those that wait for the resolver when that has answered, the others at once.
    pub(super) fn retire(&self) {
        self.schedule.close();
        self.cancel.cancel();
    }

    /// Ends the threads, and waits for that. The resolver has to be closed before, or it waits for that too.
    pub(super) fn stop(&mut self) {
        self.retire();
        for thread in self.threads.drain(..) {
            // A thread that has panicked has ended as well.
            let _ = thread.join();
        }
    }
}

impl Target {
    /// The member with this index, if it is to be checked.
    fn new(site: &Site, balancer: &Arc<Balancer>, index: usize) -> Option<Self> {
        let member = balancer.members().get(index)?;
        member.terms.check.as_ref()?;
        let (host, backend) = (&site.host, &member.backend);
        Some(Self {
            balancer: Arc::clone(balancer),
            index,
            timeout: host.backend_timeout(backend),
            connect_timeout: host.connect_timeout(backend),
            options: Options {
                keepalive: backend.parameters.keepalive.unwrap_or(true),
                receive_buffer: host.backend_receive_buffer(backend),
                source: host.source_address,
            },
            tls: site.connectors.of(backend).cloned(),
        })
    }

    /// The member and its check, where it has one.
    fn subject(&self) -> Option<(&Member, &Check)> {
        let member = self.balancer.members().get(self.index)?;
        Some((member, member.terms.check.as_ref()?))
    }

    /// Checks it, unless it is stopped, and says when that is to be done again. One that is disabled is checked, as in
    /// httpd: its health is known then when it is to be used again.
    fn visit(&self, tools: &mut Tools) -> Option<Instant> {
        let (member, check) = self.subject()?;
        let again = Instant::now() + check.interval;
        if !member.status().has(Flag::Stopped) {
            let unwound = catch_unwind(AssertUnwindSafe(|| self.check(member, check, tools)));
            if unwound.is_err() {
                let id = Id::Panicked;
                error!("{id} a health check panicked; {}", id.remedy());
            }
        }
        // One that took longer than its interval is followed by the next at once.
        Some(again.max(Instant::now()))
    }

    fn check(&self, member: &Member, check: &Check, tools: &mut Tools) {
        let (outcome, leave) = probe(self, member, check, tools);
        match outcome {
            Ok(()) => self.judge(member, check, None),
            Err(Failure::Member(why)) => self.judge(member, check, Some(&why)),
            Err(Failure::Ours(why)) => {
                self.debug(member, check, format_args!("not done: {why}"));
            }
        }
        leave.take(&mut tools.waiter);
    }

    /// Tells the member what came of a check, `failure` if it did not pass, and the operator what came of that.
    fn judge(&self, member: &Member, check: &Check, failure: Option<&str>) {
        match failure {
            None => self.debug(member, check, format_args!("passed")),
            Some(why) => self.debug(member, check, format_args!("failed: {why}")),
        }
        let news = member.checked(failure.is_none(), Instant::now());
        let (balancer, name, method) = (self.balancer.name(), member.name(), check.method.name());
        match news {
            None => {}
            Some(News::Unhealthy) => {
                let (id, why) = (Id::Unhealthy, failure.unwrap_or_default());
                let remedy = id.remedy();
                warn!("{id} {balancer}: {name}: unhealthy: health check {method}: {why}; {remedy}");
            }
            Some(News::Healthy) => {
                let id = Id::Healthy;
                // Whoever has read of its end is to read of its return, whatever the level.
                error_log::notice(&format!(
                    "{id} {balancer}: {name}: healthy again: health check {method} passed"
                ));
            }
        }
    }

    fn debug(&self, member: &Member, check: &Check, what: fmt::Arguments<'_>) {
        let (balancer, name, method) = (self.balancer.name(), member.name(), check.method.name());
        debug!("{balancer}: {name}: health check {method}: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::health::{Method, Uri};
    use crate::balancer::{Settings, Terms};
    use crate::route::backend::{Backend, Parameters};
    use crate::route::url::BackendUrl;
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    /// A balancer of one member, which is asked for `/health` where that has a meaning.
    pub(super) fn target(method: &str, url: &str) -> Target {
        let method = Method::parse(method).unwrap().unwrap();
        let mut check = Check::by(method);
        check.interval = Duration::from_millis(100);
        check.uri = Some(Uri::parse("/health").unwrap());
        let terms = Terms {
            check: Some(check),
            ..Terms::default()
        };
        let backend = Backend {
            url: BackendUrl::parse(url).unwrap(),
            parameters: Parameters::default(),
        };
        let member = Member::new(Arc::new(backend), terms);
        Target {
            balancer: Arc::new(Balancer::new("set", Settings::default(), vec![member])),
            index: 0,
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(20),
            options: Options::default(),
            tls: None,
        }
    }

    fn start(targets: Vec<Target>, threads: usize) -> Health {
        let size = Size {
            threads,
            stack: 256 * 1024,
        };
        Health::start(targets, size, &Resolver::default()).unwrap()
    }

    #[test]
    fn there_are_no_more_threads_than_members_to_check() {
        let unchecked = Target {
            index: 1,
            ..target("TCP", "http://127.0.0.1:1")
        };
        assert!(start(vec![unchecked], 16).threads.is_empty());
        for (most, threads) in [(16, 3), (2, 2), (0, 1)] {
            let targets = (0..3).map(|_| target("TCP", "http://127.0.0.1:1"));
            let mut health = start(targets.collect(), most);
            assert_eq!(health.threads.len(), threads);
            health.stop();
        }
    }

    #[test]
    fn members_are_checked_again_and_again_and_a_stopped_one_never() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stopped = target("TCP", "http://127.0.0.1:1");
        let stop = crate::balancer::Change::parse("S").unwrap();
        let members = Arc::clone(&stopped.balancer);
        members.members()[0].set_status(stop, Instant::now());
        let mut health = start(vec![stopped, target("TCP", &url)], 1);
        for _ in 0..3 {
            listener.accept().unwrap();
        }
        health.stop();
        assert_eq!(members.members()[0].status().to_string(), "S");
    }

    #[test]
    fn a_check_that_hangs_is_called_off_when_the_server_stops() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let hanging = target("GET", &format!("http://{}", listener.local_addr().unwrap()));
        let checked = Arc::clone(&hanging.balancer);
        let mut health = start(vec![hanging], 1);
        let (_kept, _) = listener.accept().unwrap();
        health.stop();
        let status = checked.members()[0].status();
        assert!(!status.has(Flag::Unhealthy), "nobody knows");
    }
}
