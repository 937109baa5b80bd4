//! What the database knows of origins and formats beside what the configuration says of them: which zone an origin is read
//! in, and which configuration would leave rows without a home.

use super::DaemonError;
use crate::config::{Config, FormatConfig, OriginConfig, ZoneWish};
use crate::formats::Formats;
use crate::normalise::{Engine, Wish};
use crate::record::document::Layout;
use crate::record::origin::Origin;
use crate::store::query::{Query as _, QueryError, StoredLayout, StoredOrigin};
use crate::store::sqlite::query::SqliteQuery;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use tokio::runtime::Handle;

/// The origins that the store knows; none while there is no database.
pub fn stored_origins(config: &Config, handle: &Handle) -> Result<Vec<StoredOrigin>, QueryError> {
    let query = SqliteQuery::open(&config.store.sqlite, &config.spool_db(), handle.clone());
    match query.and_then(|query| query.origins()) {
        Err(QueryError::Missing(_)) => Ok(Vec::new()),
        other => other,
    }
}

/// Refuses a configuration that lost the stanza of an origin with rows.
pub fn none_gone(config: &Config, stored: &[StoredOrigin]) -> Result<(), DaemonError> {
    let gone = |row: &&StoredOrigin| {
        row.has_rows && !config.origins.iter().any(|origin| origin.is_called(&row.name))
    };
    match stored.iter().find(gone) {
        None => Ok(()),
        Some(row) => {
            Err(DaemonError::OriginGone { file: config.file.display().to_string(), origin: row.name.clone() })
        }
    }
}

/// The layouts of stored rows; none while there is no database.
pub fn stored_layouts(config: &Config, handle: &Handle) -> Result<Vec<StoredLayout>, QueryError> {
    let query = SqliteQuery::open(&config.store.sqlite, &config.spool_db(), handle.clone());
    match query.and_then(|query| query.stored_layouts()) {
        Err(QueryError::Missing(_)) => Ok(Vec::new()),
        other => other,
    }
}

/// Refuses a configuration under which rows of a format that it describes would have another identity, or no reader.
pub fn formats_kept(config: &Config, formats: &Formats, stored: &[StoredLayout]) -> Result<(), DaemonError> {
    for row in stored.iter().filter(|row| !Formats::is_built_in(&row.format)) {
        let described = config.formats.iter().find(|format| format.mapping.id == row.format);
        let (Some(described), Some(format)) = (described, formats.by_id(&row.format)) else {
            let (file, format) = (config.file.display().to_string(), row.format.clone());
            return Err(DaemonError::FormatGone { file, format });
        };
        let layout = Layout::new(format.card(), row.kind, row.headers.clone(), row.dialect.clone());
        let cause = match layout {
            Ok(layout) if layout.identity() == row.identity => continue,
            Ok(layout) => format!("then: {}; now: {}", row.identity, layout.identity()),
            Err(unusable) => unusable.to_string(),
        };
        let (place, format) = (described.place.clone(), row.format.clone());
        return Err(DaemonError::FormatChanged { place, format, cause });
    }
    Ok(())
}

/// What to say about origins whose rows were read in another zone than the one that is configured now.
pub fn zones_corrected(config: &Config, stored: &[StoredOrigin]) -> Vec<String> {
    let corrected = |row: &StoredOrigin| {
        let origin = config.origins.iter().find(|origin| origin.is_called(&row.name))?;
        let ZoneWish::Named(_) = origin.time_zone else { return None };
        let (name, now, then) = (&origin.name, origin.time_zone.name(), &row.time_zone);
        (row.has_rows && now != then).then(|| {
            format!(
                "origin {name:?} is read as {now} from now on; its rows that were stored as {then} keep their times until \
                 they are corrected: `cdrd replay --rederive --origin {name}`"
            )
        })
    };
    stored.iter().filter_map(corrected).collect()
}

/// The origins as normalising needs them.
pub fn origins(config: &Config, stored: &[StoredOrigin]) -> Result<Vec<Origin>, DaemonError> {
    config
        .origins
        .iter()
        .map(|origin| {
            // The zone of an "auto" origin is fixed at its first start: a host that moves must not shift its rows.
            let time_zone = match &origin.time_zone {
                ZoneWish::Named(zone) => Some(zone.clone()),
                ZoneWish::Auto => recorded_zone(origin, stored).or_else(host_zone),
            };
            let time_zone = time_zone.ok_or_else(|| DaemonError::ZoneUnknown {
                file: config.file.display().to_string(),
                origin: origin.name.clone(),
            })?;
            Ok(Origin {
                name: origin.name.clone(),
                key: origin.name.clone(),
                tenant: origin.tenant.clone(),
                time_zone,
                country: origin.country.clone(),
            })
        })
        .collect()
}

/// What `auto` meant when an origin was first started.
pub fn recorded_zone(origin: &OriginConfig, stored: &[StoredOrigin]) -> Option<TimeZone> {
    stored.iter().find(|row| origin.is_called(&row.name)).and_then(|row| zone_named(&row.time_zone))
}

/// Sources that write their own zone.
pub fn source_zones(config: &Config) -> HashMap<String, TimeZone> {
    let zones =
        config.sources.iter().filter_map(|source| Some((source.name.clone(), source.time_zone.clone()?)));
    zones.collect()
}

/// The engine for these origins and formats, as the configuration wishes.
pub fn engine(config: &Config, origins: Vec<Origin>, formats: &Formats) -> Engine {
    let wish = |format: &FormatConfig| {
        let mapping = &format.mapping;
        let zone = mapping.time_zone.as_deref().and_then(zone_named);
        (mapping.id.clone(), Wish { zone, lengths: mapping.lengths })
    };
    Engine::new(origins, source_zones(config), zone_named, formats.cards().collect())
        .heeding(config.formats.iter().map(wish).collect())
}

/// A zone by its IANA name.
pub fn zone_named(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

fn host_zone() -> Option<TimeZone> {
    let zone = TimeZone::try_system().ok()?;
    zone.iana_name().is_some().then_some(zone)
}
