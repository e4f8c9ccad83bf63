//! What a message is answered with when it is not tunnelled; the only map from error to status.
