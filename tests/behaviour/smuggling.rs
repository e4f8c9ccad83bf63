//! Messages that two readers could read in two ways, from clients and from backends: nothing that anybody could take for
//! another message ever comes out on the other side. The names in brackets are those of faults that httpd has had.

mod backends;
mod clients;

/// What goes wrong in chunks, where a chunk begins or ends.
const BROKEN: &[(&str, &str)] = &[
    ("0x", "0x2\r\nhi\r\n0\r\n\r\n"),
    ("a blank in front of the size", " 2\r\nhi\r\n0\r\n\r\n"),
    ("a blank behind the size", "2 \r\nhi\r\n0\r\n\r\n"),
    (
        "a blank in front of an extension",
        "2 ;x\r\nhi\r\n0\r\n\r\n",
    ),
    ("a plus", "+2\r\nhi\r\n0\r\n\r\n"),
    ("a minus", "-2\r\nhi\r\n0\r\n\r\n"),
    ("no size", "\r\nhi\r\n0\r\n\r\n"),
    ("an extension without a size", ";x\r\nhi\r\n0\r\n\r\n"),
    ("17 digits", "10000000000000002\r\nhi\r\n0\r\n\r\n"),
    ("LF behind the size", "2\nhi\r\n0\r\n\r\n"),
    ("CR behind the size", "2\rhi\r\n0\r\n\r\n"),
    ("no line end behind the data", "2\r\nhi0\r\n\r\n"),
    ("LF behind the data", "2\r\nhi\n0\r\n\r\n"),
    ("more data than the size says", "2\r\nhi there\r\n0\r\n\r\n"),
    ("LF in an extension", "2;x\ny\r\nhi\r\n0\r\n\r\n"),
    ("CR in an extension", "2;x\ry\r\nhi\r\n0\r\n\r\n"),
    ("LF in a quoted extension", "2;x=\"\n\"\r\nhi\r\n0\r\n\r\n"),
    ("NUL in an extension", "2;\0\r\nhi\r\n0\r\n\r\n"),
    ("LF behind the last size", "0\n\r\n"),
    ("LF at the end", "0\r\n\n"),
    ("LF behind a trailer", "0\r\nX: y\n\r\n"),
    ("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
];

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
