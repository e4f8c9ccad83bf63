//! What stands in an error answer in place of our own sentence: a page, or the address of another one. httpd:
//! `ErrorDocument`.

/// The longest page, in bytes. An answer is made whole before it is sent, so this bounds what a worker holds for it; pages
/// that say what is wrong are a few KiB.
pub const LONGEST: usize = 64 * 1024;

/// What the configuration wants a client to get with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A page of our own.
    Page(Page),
    /// The client is led to this URL, as it stands in `Location`.
    Elsewhere(String),
}

/// The whole of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// As in `Content-Type`.
    pub content_type: &'static str,
    /// At most [`LONGEST`] bytes.
    pub body: Vec<u8>,
}

/// The types of pages, by the ending of their file. Short on purpose: what else there is belongs into a page (styles,
/// pictures), or is made by a program (php, shtml).
const TYPES: [(&str, &str); 6] = [
    ("html", "text/html"),
    ("htm", "text/html"),
    ("txt", "text/plain"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
];

impl Document {
    /// A text as it stands in the configuration, which is HTML.
    ///
    /// # Errors
    /// It is longer than [`LONGEST`].
    pub fn text(text: &str) -> Result<Self, String> {
        // httpd: always says iso-8859-1, and so shows every other letter than those of ASCII wrongly.
        let content_type = match text.is_ascii() {
            true => "text/html; charset=iso-8859-1",
            false => "text/html; charset=utf-8",
        };
        Self::page(content_type, text.as_bytes().to_vec())
    }

    /// The content of a file. Its type is that of its name's ending; what letters its bytes are, the page says itself, as
    /// with httpd.
    ///
    /// # Errors
    /// It is longer than [`LONGEST`], or its name does not tell its type.
    pub fn file(name: &str, content: Vec<u8>) -> Result<Self, String> {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let found = TYPES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(ending));
        match found {
            Some((_, content_type)) => Self::page(content_type, content),
            None => {
                let known: Vec<String> = TYPES
                    .iter()
                    .map(|(ending, _)| format!(".{ending}"))
                    .collect();
                Err(format!(
                    "the ending of \"{name}\" does not tell its type; expected {}",
                    known.join(", ")
                ))
            }
        }
    }

    fn page(content_type: &'static str, body: Vec<u8>) -> Result<Self, String> {
        if body.len() > LONGEST {
            return Err(format!("the page is longer than {LONGEST} bytes"));
        }
        Ok(Self::Page(Page { content_type, body }))
    }

    /// The address of a page that another server has.
    ///
    /// # Errors
    /// It is no `http://` or `https://` URL, or could not stand in a header field.
    pub fn elsewhere(url: &str) -> Result<Self, String> {
        let scheme = url.split_once("://");
        let is_web = scheme.is_some_and(|(scheme, rest)| {
            let known = ["http", "https"];
            known.iter().any(|known| known.eq_ignore_ascii_case(scheme))
                && !rest.is_empty()
                && !rest.starts_with('/')
        });
        if !is_web {
            return Err(format!(
                "expected http://host/... or https://host/..., found \"{url}\""
            ));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "\"{url}\" holds what no URL can hold; write it as %XX"
            ));
        }
        Ok(Self::Elsewhere(url.to_owned()))
    }

    /// The status that the client gets of an error that has `status`.
    #[must_use]
    pub fn status(&self, status: u16) -> u16 {
        match self {
            Self::Page(_) => status,
            Self::Elsewhere(_) => 302,
        }
    }
}

/// Whether a file of this name is one that could be a page.
#[must_use]
pub fn is_named_as_page(name: &str) -> bool {
    Document::file(name, Vec::new()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_of(document: Document) -> &'static str {
        match document {
            Document::Page(page) => page.content_type,
            Document::Elsewhere(url) => panic!("{url}"),
        }
    }

    #[test]
    fn a_text_says_what_its_letters_are() {
        let text = |text| type_of(Document::text(text).unwrap());
        assert_eq!(text("<b>no</b>"), "text/html; charset=iso-8859-1");
        assert_eq!(text("nö"), "text/html; charset=utf-8");
    }

    #[test]
    fn the_type_of_a_file_is_that_of_its_ending() {
        for (name, content_type) in [
            ("/e/404.html", "text/html"),
            ("/a.txt/404.HTM", "text/html"),
            ("/404.en.json", "application/json"),
            ("/404.svg", "image/svg+xml"),
        ] {
            let document = Document::file(name, Vec::new()).unwrap();
            assert_eq!(type_of(document), content_type, "{name}");
        }
        for name in [
            "/404",
            "/404.php",
            "/a.html/404",
            "/404.css",
            "/html",
            "/404.",
        ] {
            let problem = Document::file(name, Vec::new()).unwrap_err();
            assert!(problem.contains(".html, .htm, .txt"), "{problem}");
        }
    }

    #[test]
    fn a_page_has_a_longest() {
        assert!(Document::file("/a.txt", vec![b'x'; LONGEST]).is_ok());
        assert!(Document::file("/a.txt", vec![b'x'; LONGEST + 1]).is_err());
        assert!(Document::text(&"x".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn only_an_address_that_can_stand_in_a_field_is_led_to() {
        for url in ["http://a", "HTTPS://a.example:8/b?c=%20#d"] {
            let document = Document::elsewhere(url).unwrap();
            assert_eq!(document.status(404), 302);
            assert_eq!(document, Document::Elsewhere(url.to_owned()));
        }
        for url in [
            "ftp://a/",
            "http:/a",
            "http://",
            "http:///a",
            "http://a/\r\nX: y",
            "http://a/b c",
            "http://a/ö",
            "//a",
        ] {
            assert!(Document::elsewhere(url).is_err(), "{url}");
        }
    }
}
