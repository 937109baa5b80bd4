//! What the pipeline says: one line per delivery with its counts. Must never name a person or a telephone number: a
//! delivery is named by its id and its printable file name.

use super::{Ended, PipelineError};
use crate::record::delivery::Spooled;
use crate::record::outcome::{Actor, Rejection, brief};
use crate::store::DeliveryState;
use crate::telemetry;
use std::time::Duration;

pub(super) fn delivery_ended(spooled: &Spooled, ended: &Ended) {
    let counts = &ended.counts;
    let rejected = counts.rejected > 0 || ended.rejected_documents > 0;
    let message_id = if rejected { telemetry::DELIVERY_REJECTED } else { telemetry::DELIVERY_STORED };
    // The level is part of an event's static data, hence one macro call per level.
    macro_rules! say {
        ($level:expr) => {
            tracing::event!(
                $level,
                message_id,
                cdrd_source = spooled.source,
                cdrd_origin = spooled.origin,
                cdrd_delivery = %spooled.id,
                cdrd_name = spooled.name,
                cdrd_state = ended.state.word(),
                cdrd_rows_read = counts.rows_read,
                cdrd_stored = counts.stored,
                cdrd_duplicate = counts.duplicate,
                cdrd_amended = counts.amended,
                cdrd_rejected = counts.rejected,
                cdrd_skipped = counts.skipped,
                cdrd_held = counts.held,
                "{} from {}: {}, rows {counts}",
                spooled.name,
                spooled.source,
                ended.state.word()
            )
        };
    }
    // A busy PBX adds a row every second.
    if ended.state == DeliveryState::Growing {
        say!(tracing::Level::DEBUG);
    } else if rejected {
        say!(tracing::Level::WARN);
    } else {
        say!(tracing::Level::INFO);
    }
}

pub(super) fn still_reading(spooled: &Spooled, rows: u64) {
    tracing::info!(
        cdrd_source = spooled.source,
        cdrd_delivery = %spooled.id,
        cdrd_name = spooled.name,
        "{} from {}: {rows} rows read so far",
        spooled.name,
        spooled.source
    );
}

pub(super) fn not_recognised_yet(spooled: &Spooled, rejection: &Rejection) {
    tracing::warn!(
        cdrd_source = spooled.source,
        cdrd_delivery = %spooled.id,
        cdrd_name = spooled.name,
        reason = rejection.reason.code(),
        "{} from {} is not recognised by its first lines and waits for more: {}",
        spooled.name,
        spooled.source,
        brief(&rejection.message)
    );
}

pub(super) fn document_rejected(spooled: &Spooled, path: &str, rejection: &Rejection) {
    tracing::warn!(
        message_id = telemetry::DELIVERY_REJECTED,
        cdrd_source = spooled.source,
        cdrd_delivery = %spooled.id,
        cdrd_name = spooled.name,
        document = path,
        reason = rejection.reason.code(),
        "{} from {}: document rejected: {}",
        spooled.name,
        spooled.source,
        brief(&rejection.message)
    );
}

pub(super) fn clock_fault(spooled: &Spooled, fault: &str) {
    tracing::error!(
        message_id = telemetry::CLOCK_FAULT,
        cdrd_source = spooled.source,
        cdrd_origin = spooled.origin,
        cdrd_delivery = %spooled.id,
        "origin {:?} is misconfigured: {fault}",
        spooled.origin
    );
}

pub(super) fn set_aside(spooled: &Spooled, error: &PipelineError, pause: Duration) {
    tracing::warn!(
        cdrd_source = spooled.source,
        cdrd_origin = spooled.origin,
        cdrd_delivery = %spooled.id,
        cdrd_name = spooled.name,
        "a delivery waits: {error}; trying again in {pause:?}"
    );
}

pub(super) fn paused(error: &PipelineError, pause: Duration) {
    if error.actor() == Actor::Broken {
        tracing::error!("storing stands still: {error}; trying again in {pause:?}");
    } else {
        tracing::warn!("storing waits: {error}; trying again in {pause:?}");
    }
}
