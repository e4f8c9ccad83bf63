//! `ProxyPassReverse`, `ProxyPassReverseCookieDomain` and `ProxyPassReverseCookiePath`. Source: httpd mod_proxy.c
//! `add_pass_reverse`, `cookie_path`, `cookie_domain`.

use super::draft::Scope;
use crate::route::reverse::Reverse;
use crate::route::settings::Change;
use std::sync::Arc;

/// `ProxyPassReverse [path] url [interpolate]`
pub(super) fn proxy_pass_reverse(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let words = without_interpolate(scope, words)?;
    let (outside, inside) = match (&scope.section, words) {
        (Some(section), [url]) => (section.own_path()?, *url),
        (Some(_), [first, _]) => {
            return Err(format!(
                "\"{first}\": inside of a location the path is that of the location; write the URL alone"
            ));
        }
        (None, [url, path]) if url.contains("://") && path.starts_with('/') => {
            return Err(format!(
                "the path comes before the URL; write ProxyPassReverse {path:?} {url:?}"
            ));
        }
        (None, [path, url]) => (*path, *url),
        (None, _) => {
            return Err(
                "expected a path and a URL, such as ProxyPassReverse \"/app/\" \"http://localhost:8080/\"; only inside \
                 of <Location> the URL stands alone"
                    .to_owned(),
            );
        }
        (Some(_), _) => return Err(format!("expected a URL, found \"{}\"", words.join(" "))),
    };
    let line = Reverse::address(outside, inside, scope.server_root)?;
    if let Some(url) = line.balancer() {
        scope.host.reversed.push((url.clone(), scope.at.clone()));
    }
    if let Some(doubt) = line.doubt() {
        scope.warn(doubt);
    }
    scope.change(Change::Reverse(Arc::new(line)));
    Ok(())
}

/// `ProxyPassReverseCookieDomain internal public [interpolate]`
pub(super) fn cookie_domain(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [internal, public] = without_interpolate(scope, words)? else {
        return Err(
            "expected the domain that the backend writes and the one that clients know, such as \
             ProxyPassReverseCookieDomain app.internal www.example.org"
                .to_owned(),
        );
    };
    let line = Reverse::cookie_domain(internal, public)?;
    scope.change(Change::Reverse(Arc::new(line)));
    Ok(())
}

/// `ProxyPassReverseCookiePath internal public [interpolate]`
pub(super) fn cookie_path(scope: &mut Scope<'_>, words: &[&str]) -> Result<(), String> {
    let [internal, public] = without_interpolate(scope, words)? else {
        return Err(
            "expected the path that the backend writes and the one that clients know, such as \
             ProxyPassReverseCookiePath / /app/"
                .to_owned(),
        );
    };
    let line = Reverse::cookie_path(internal, public)?;
    scope.change(Change::Reverse(Arc::new(line)));
    Ok(())
}

/// The words without the flag at the end, which has nothing to do where no variable is named.
fn without_interpolate<'w, 's>(
    scope: &mut Scope<'_>,
    words: &'w [&'s str],
) -> Result<&'w [&'s str], String> {
    let words = match words {
        [others @ .., last] if !others.is_empty() && last.eq_ignore_ascii_case("interpolate") => {
            others
        }
        _ => return Ok(words),
    };
    if let Some(word) = words.iter().find(|word| word.contains("${")) {
        return Err(format!(
            "\"{word}\": variables of requests are not supported here; write a line for each value, or Header edit, \
             whose values may hold %{{NAME}}e"
        ));
    }
    scope.note("interpolate has no effect: no ${name} stands in the line");
    Ok(words)
}
