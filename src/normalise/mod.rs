//! Raw records to typed legs.
