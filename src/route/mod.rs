//! Which mapping a request meets, and what its backend is asked for.
#![deny(clippy::indexing_slicing)]

pub mod backend;
pub mod environment;
pub mod facts;
pub mod mapping;
pub mod pattern;
pub mod url;

use crate::http::answer::Refusal;
use crate::http::head::RequestHead;
use mapping::Mapping;
use std::sync::Arc;
use url::PathError;

/// The mappings of one virtual host, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// The mappings, first match wins.
    pub mappings: Vec<Arc<Mapping>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// The mapping that it met.
    pub mapping: &'a Arc<Mapping>,
    /// The target for the backend: path and query, canonical, every byte visible.
    pub target: String,
}

impl Router {
    /// Finds the mapping for a request. A match is final, whatever else is wrong with the request.
    ///
    /// # Errors
    /// 400 or 404 for a path without a canonical form, 404 if nothing is mapped there (httpd would serve a file), 403 for a
    /// target that may not go on the wire.
    pub fn route<'a>(&'a self, head: &RequestHead) -> Result<Decision<'a>, Refusal> {
        let (raw_path, query) = match head.target().split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (head.target(), None),
        };
        let path = url::canonical_path(raw_path)?;
        for mapping in &self.mappings {
            if let Some(rest) = mapping.rest(&path) {
                let target = outgoing(mapping.url.target(rest, query))?;
                return Ok(Decision { mapping, target });
            }
        }
        let path = path.escape_ascii();
        Err(Refusal::new(
            404,
            format!("nothing is mapped at \"{path}\""),
        ))
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        let status = match error {
            PathError::Escape | PathError::AboveRoot => 400,
            PathError::Slash | PathError::Nul => 404,
        };
        Self::new(status, error.to_string())
    }
}

/// The last look at a target before it becomes part of a request line. Encoding and head parsing leave nothing to find
/// today; whatever way of making targets comes later has to pass here as well (httpd since 2.4.56, CVE-2023-25690).
fn outgoing(target: String) -> Result<String, Refusal> {
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Refusal::new(
            403,
            "the target for the backend holds a blank or a control character",
        ));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::url::BackendUrl;
    use super::*;
    use crate::handshake::Upgrade;
    use crate::http::head::Limits;

    fn router(lines: &[(&str, &str)]) -> Router {
        let mappings = lines.iter().map(|(prefix, url)| {
            Arc::new(Mapping {
                prefix: (*prefix).to_owned(),
                url: BackendUrl::parse(url).unwrap(),
                connect_timeout: None,
                timeout: None,
                upgrade: Upgrade::default(),
                origin: "test:1".to_owned(),
            })
        });
        Router {
            mappings: mappings.collect(),
        }
    }

    /// The URL and the target that a request for `target` leads to, or the status that it is refused with.
    fn route(router: &Router, target: &str) -> Result<(String, String), u16> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (_, head) = RequestHead::parse(text.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        let decision = router.route(&head).map_err(|refusal| refusal.status)?;
        Ok((decision.mapping.url.to_string(), decision.target))
    }

    #[test]
    fn the_first_match_wins() {
        let router = router(
            &[
                ("/a/b", "ws://one"),
                ("/a", "ws://two/"),
                ("/a/c", "ws://3/"),
            ][..2],
        );
        for (target, url, path) in [
            ("/a/b/c", "ws://one", "/c"),
            ("/a/c", "ws://two/", "//c"),
            ("/a", "ws://two/", "/"),
        ] {
            let expected = (url.to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
        assert_eq!(route(&router, "/"), Err(404));
        assert_eq!(route(&Router::default(), "/a"), Err(404));
    }

    #[test]
    fn the_example_of_the_documents() {
        let router = router(&[
            ("/ws2/", "ws://echo.websocket.org/"),
            ("/wss2/", "wss://echo.websocket.org/"),
        ]);
        for (target, url, path) in [
            ("/ws2/", "ws://echo.websocket.org/", "/"),
            ("/ws2/a?b", "ws://echo.websocket.org/", "/a?b"),
            ("/wss2/a/?", "wss://echo.websocket.org/", "/a/?"),
        ] {
            let expected = (url.to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn matching_and_forwarding_see_the_same_path() {
        let router = router(&[("/ws/", "ws://b/base/")]);
        for (target, path) in [
            ("/%77s/x", "/base/x"),
            ("//ws//x", "/base/x"),
            ("/other/../ws/x", "/base/x"),
            ("/ws/%2e/x", "/base/x"),
            ("/ws/a%20b%0d%0a", "/base/a%20b%0D%0A"),
            ("/ws/a%3fb", "/base/a%3Fb"),
            ("/ws/a%25b?q=%0d%0a", "/base/a%25b?q=%0d%0a"),
            ("/ws/%e4", "/base/%E4"),
            ("/ws/?a?b", "/base/?a?b"),
            ("/ws/@evil:80/", "/base/@evil:80/"),
            ("/ws/;x=1", "/base/;x=1"),
        ] {
            let expected = ("ws://b/base/".to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn paths_that_are_refused() {
        let router = router(&[("/", "ws://b/")]);
        for (target, status) in [
            ("/%zz", 400),
            ("/../x", 400),
            ("/%2e%2e/x", 400),
            ("/a%2Fb", 404),
            ("/a%00b", 404),
        ] {
            assert_eq!(route(&router, target), Err(status), "{target}");
        }
        // In a query they are the backend's business.
        assert!(route(&router, "/?%zz/../%2f%00").is_ok());
    }

    #[test]
    fn a_prefix_with_a_slash_before_a_url_without_one_is_no_injection() {
        let router = router(&[("/ws/", "ws://b")]);
        for (target, path) in [("/ws/a", "/a"), ("/ws/@evil/", "/@evil/"), ("/ws/", "/")] {
            let expected = ("ws://b".to_owned(), path.to_owned());
            assert_eq!(route(&router, target), Ok(expected));
        }
    }

    #[test]
    fn a_target_with_a_blank_or_a_control_does_not_go_out() {
        for target in ["/a b", "/a\r\nX: y", "/\u{7f}", "/\0"] {
            assert_eq!(outgoing(target.to_owned()).unwrap_err().status, 403);
        }
        assert_eq!(outgoing("/a%20b".to_owned()).unwrap(), "/a%20b");
    }
}
