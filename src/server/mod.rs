//! Policy meets devices.
