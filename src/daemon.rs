//! Composition root: builds everything, supervises, stops.
