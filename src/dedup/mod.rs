//! Identity, versions and the fold: which leg a record states, as pure code.
