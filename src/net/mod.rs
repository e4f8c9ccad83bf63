//! Sockets before the tunnel: listening, resolving, connecting, TLS, waiting by a deadline.
