//! The tunnel engine.
