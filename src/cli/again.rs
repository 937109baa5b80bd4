//! What `replay` and `rejected retry` share: the locks, the leftovers of the last run, and how today's configuration
//! reads a delivery of yesterday.

use super::import::drain;
use super::{Loaded, journal};
use crate::config;
use crate::daemon::{self, DaemonError, LockError, Works};
use crate::record::delivery::{Spooled, SpooledBody};
use crate::store::DeliveryStart;
use anyhow::bail;
use std::sync::Arc;

/// Builds everything, unless a daemon runs: nothing may be stored while something is read again.
pub(super) fn works(loaded: &Loaded) -> anyhow::Result<Works> {
    journal::start_beside_a_bar();
    match daemon::build(&loaded.config, &loaded.formats, Arc::new(daemon::runtime()?)) {
        Ok(works) => Ok(works),
        Err(DaemonError::Locked(LockError::Held { pid, .. })) => {
            bail!(
                "cdrd runs as process {pid}; stop it first, so that nothing is stored while rows are corrected"
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// Finishes what the last run left half read.
pub(super) fn finish_leftovers(works: &Works) -> anyhow::Result<()> {
    drain(works, None, &mut |_, _| {})
}

/// A delivery as it is read today: a source that the configuration has is read as that says now, for another one (an
/// import) counts what was said when it came.
pub(super) fn spooled(loaded: &Loaded, start: DeliveryStart) -> Spooled {
    let (config, versions) = (&loaded.config, loaded.formats.versions());
    let source = config.sources.iter().find(|source| source.name == start.source);
    let (pinned_format, reading) = if let Some(source) = source {
        (source.pinned_format.clone(), config.reading(source, &versions))
    } else {
        let origin = config.origins.iter().find(|origin| origin.name == start.origin);
        let zone = start.time_zone.as_deref().and_then(daemon::zone_named);
        let pinned = start.pinned_format.clone();
        let reading = config::reading_hash(origin, zone.as_ref(), pinned.as_deref(), &versions);
        (pinned, reading)
    };
    Spooled {
        growth: None,
        id: start.id,
        origin: start.origin,
        source: start.source,
        account: start.account,
        peer: start.peer,
        name: start.name,
        received_at: start.received_at,
        pinned_format,
        time_zone: start.time_zone,
        reading,
        bytes: start.bytes,
        content_hash: start.content_hash,
        // Its bytes are read from the archive.
        body: SpooledBody::Bytes(Vec::new()),
    }
}
