//! Where an ordinary answer ends (RFC 9112 section 6.3).
