//! The only door: makes a delivery durable and answers with a receipt.
