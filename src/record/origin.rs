//! A PBX (or tenant of one) as the configuration describes it.

use jiff::tz::TimeZone;

/// What normalising needs to know of an origin.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name in the configuration.
    pub name: String,
    /// The origin's part of every identity: its name when it first stored something. Renaming keeps it.
    pub key: String,
    /// Tenant, if it is one of several.
    pub tenant: Option<String>,
    /// Zone of its wall clock.
    pub time_zone: TimeZone,
    /// ISO 3166 country for numbers written nationally.
    pub country: Option<String>,
}
