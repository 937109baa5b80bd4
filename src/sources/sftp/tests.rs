//! The server without its transport.
