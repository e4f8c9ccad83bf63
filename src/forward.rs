//! The heads as the other side shall see them.
