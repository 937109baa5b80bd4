//! Envelopes to documents.
