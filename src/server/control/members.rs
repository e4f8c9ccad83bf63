//! Members of balancers as an operator names them, and their draining.

use crate::balancer::{Balancer, Change, Flag, Member};
use crate::route::url::BackendUrl;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

/// How many members an answer lists.
const MOST_LISTED: usize = 100;

/// The members of one balancer that a name stands for: one, or several of the same URL.
#[derive(Debug)]
pub(super) struct Found<'a> {
    balancer: &'a Balancer,
    members: Vec<&'a Member>,
}

/// Finds what `name` stands for: the URL of a member, `balancer://name/` and that URL, or the place where it is
/// configured, as `file:line`.
///
/// # Errors
/// A status and lines of text: it stands for nothing, or for members of several balancers.
pub(super) fn find<'a>(
    balancers: impl Iterator<Item = &'a Arc<Balancer>>,
    name: &str,
) -> Result<Found<'a>, (u16, String)> {
    let balancers: Vec<&Balancer> = balancers.map(|balancer| &**balancer).collect();
    let wanted = Wanted::new(name);
    let mut found: Vec<Found<'_>> = balancers
        .iter()
        .map(|balancer| Found {
            balancer,
            members: balancer
                .members()
                .iter()
                .filter(|member| wanted.is(balancer, member))
                .collect(),
        })
        .filter(|found| !found.members.is_empty())
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let several = found
                .iter()
                .flat_map(|found| found.members.iter().map(|member| (found.balancer, *member)));
            let mut text = format!(
                "\"{name}\" is a member of several balancers; name it as balancer://NAME/URL, or by the file and line \
                 behind it:\n"
            );
            list(&mut text, several);
            Err((409, text))
        }
        (None, _) if balancers.is_empty() => Err((
            404,
            format!("there is no member \"{name}\", since there is no balancer\n"),
        )),
        (None, _) => {
            let all = balancers
                .iter()
                .flat_map(|balancer| balancer.members().iter().map(|member| (*balancer, member)));
            let mut text = format!("there is no member \"{name}\"; there are\n");
            list(&mut text, all);
            Err((404, text))
        }
    }
}

fn list<'a>(text: &mut String, members: impl Iterator<Item = (&'a Balancer, &'a Member)>) {
    for (index, (balancer, member)) in members.enumerate() {
        if index == MOST_LISTED {
            text.push_str("  and more\n");
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {}/{}  {}",
            balancer.name(),
            member.name(),
            member.terms.origin
        );
    }
}

/// What an operator has written.
struct Wanted<'n> {
    name: &'n str,
    /// Behind `balancer://`.
    balancer: Option<&'n str>,
    /// As the configuration would show it.
    url: String,
}

impl<'n> Wanted<'n> {
    fn new(name: &'n str) -> Self {
        let behind = name.split_at_checked("balancer://".len());
        let behind = behind.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("balancer://"));
        let (balancer, url) = match behind.and_then(|(_, behind)| behind.split_once('/')) {
            Some((balancer, url)) => (Some(balancer), url),
            None => (None, name),
        };
        let url = match BackendUrl::parse(url) {
            Ok(url) => url.to_string(),
            Err(_) => url.to_owned(),
        };
        Self {
            name,
            balancer,
            url,
        }
    }

    fn is(&self, balancer: &Balancer, member: &Member) -> bool {
        if member.terms.origin == self.name {
            return true;
        }
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        let fits = |name: &str| name.eq_ignore_ascii_case(balancer.bare_name());
        self.balancer.is_none_or(fits) && bare(member.name()) == bare(&self.url)
    }
}

impl Found<'_> {
    /// No new sessions go there from `now` on; what it has goes on. A sentence says so, in the manner of log lines.
    pub(super) fn drain(&self, now: Instant) -> String {
        self.change(Change::default().set(Flag::Drain), now);
        let busy: usize = self
            .members
            .iter()
            .map(|member| member.figures().busy)
            .sum();
        let mut text = format!(
            "{} is draining; it has {busy} open requests and tunnels",
            self.name()
        );
        let takes_new = |member: &&Member| {
            let status = member.status();
            status.is_usable() && !status.has(Flag::Drain)
        };
        if self.balancer.members().iter().find(takes_new).is_none() {
            text.push_str(", and there is no other member that takes new ones");
        }
        text
    }

    /// It is chosen again.
    pub(super) fn undrain(&self, now: Instant) -> String {
        self.change(Change::default().clear(Flag::Drain), now);
        let mut text = format!("{} is not draining", self.name());
        let withheld = self
            .members
            .iter()
            .find(|member| !member.status().is_usable());
        if let Some(member) = withheld {
            let _ = write!(
                text,
                ", but its status is {}, so it is not used",
                member.status()
            );
        }
        text
    }

    fn change(&self, change: Change, now: Instant) {
        for member in &self.members {
            member.set_status(change, now);
        }
    }

    fn name(&self) -> String {
        let member = self.members.first().map(|member| member.name());
        format!("{}/{}", self.balancer.name(), member.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::{Settings, Terms};
    use crate::route::backend::{Backend, Parameters};

    fn balancer(name: &str, urls: &[&str], file: &str) -> Arc<Balancer> {
        let member = |(line, url): (usize, &&str)| {
            let url = BackendUrl::configured(url, "/".as_ref()).unwrap();
            let parameters = Parameters::default();
            let terms = Terms {
                origin: format!("{file}:{}", line + 1),
                ..Terms::default()
            };
            Member::new(Arc::new(Backend { url, parameters }), terms)
        };
        let members = urls.iter().enumerate().map(member).collect();
        Arc::new(Balancer::new(name, Settings::default(), members))
    }

    #[test]
    fn a_member_is_found_by_its_url_its_balancer_or_its_place() {
        let all = [
            balancer(
                "one",
                &["ws://a:9000/x", "ws://b", "unix:/run/c|ws://localhost"],
                "f",
            ),
            balancer("two", &["ws://a:9000/x", "ws://d", "ws://d"], "g"),
            balancer("two", &["ws://a:9000/x"], "h"),
        ];
        for (name, expected) in [
            ("ws://b", "f:2"),
            ("WS://B:80/", "f:2"),
            ("balancer://One/ws://a:9000/x/", "f:1"),
            ("g:1", "g:1"),
            ("unix:/run/c|ws://localhost", "f:3"),
            ("balancer://one/unix:/run/c|ws://localhost", "f:3"),
            ("ws://d", "g:2 g:3"),
            ("ws://a:9000/x", "409"),
            ("balancer://two/ws://a:9000/x", "409"),
            ("ws://a:9000", "404"),
            ("ws://a:9000/X", "404"),
            ("balancer://three/ws://b", "404"),
            ("balancer://one", "404"),
            ("", "404"),
        ] {
            let found = match find(all.iter(), name) {
                Ok(found) => {
                    let origins = found.members.iter().map(|member| &*member.terms.origin);
                    origins.collect::<Vec<_>>().join(" ")
                }
                Err((status, text)) => {
                    assert!(
                        text.contains("\n  balancer://two/ws://a:9000/x  g:1\n"),
                        "{text}"
                    );
                    status.to_string()
                }
            };
            assert_eq!(found, expected, "{name}");
        }
        let (status, text) = find(std::iter::empty(), "ws://b").unwrap_err();
        assert_eq!((status, text.contains("no balancer")), (404, true));
    }

    #[test]
    fn answers_are_bounded_however_many_members_there_are() {
        let urls: Vec<String> = (0..1000)
            .map(|number| format!("ws://host{number}"))
            .collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let (_, text) = find([balancer("b", &urls, "f")].iter(), "x").unwrap_err();
        assert_eq!(text.lines().count(), 1 + MOST_LISTED + 1);
    }

    #[test]
    fn draining_and_back() {
        let all = [balancer("b", &["ws://a", "ws://b"], "f")];
        let now = Instant::now();
        let [a, b] = ["ws://a", "ws://b"].map(|name| find(all.iter(), name).unwrap());
        assert_eq!(
            a.drain(now),
            "balancer://b/ws://a is draining; it has 0 open requests and tunnels"
        );
        assert!(a.members[0].status().has(Flag::Drain));
        assert!(
            b.drain(now)
                .ends_with("no other member that takes new ones")
        );
        assert_eq!(a.undrain(now), "balancer://b/ws://a is not draining");
        a.members[0].failed(now);
        assert!(
            a.undrain(now)
                .ends_with("but its status is E, so it is not used")
        );
    }
}
