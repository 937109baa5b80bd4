//! The `[[origin]]` stanzas.

use super::fault::Fault;
use super::keys::{self, Table};
use super::stanza::{Spotted, Stanza, Stanzas};
use super::{OriginConfig, ZoneWish};
use jiff::tz::TimeZone;
use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};

/// All origins; faulty ones too, as far as they have a name, so that their sources are not called orphans.
pub fn read_all(stanzas: &Stanzas<'_>, faults: &mut Vec<Fault>) -> Vec<OriginConfig> {
    let mut origins: Vec<OriginConfig> = Vec::new();
    let mut renamed = Vec::new();
    for stanza in stanzas {
        let Some(mut stanza) = Stanza::of(*stanza, Table::Origin, faults) else { continue };
        let name =
            name(&mut stanza, origins.iter().map(|origin| (origin.name.as_str(), origin.place.as_str())));
        let time_zone = match stanza.text(keys::TIME_ZONE) {
            Some(text) if text.value == "auto" => ZoneWish::Auto,
            Some(text) => zone(&text, true, stanza.faults).map_or(ZoneWish::Auto, ZoneWish::Named),
            None => ZoneWish::Auto,
        };
        let country = stanza.text(keys::COUNTRY).and_then(|text| country(&text, stanza.faults));
        let tenant = stanza.text(keys::TENANT).map(|text| text.value);
        let formerly = stanza.text(keys::FORMERLY);
        stanza.unknown_keys();
        let place = stanza.place();
        let Some(name) = name else { continue };
        renamed.extend(formerly.clone());
        origins.push(OriginConfig {
            name,
            time_zone,
            country,
            tenant,
            formerly: formerly.map(|text| text.value),
            place,
        });
    }
    for formerly in renamed {
        if let Some(other) = origins.iter().find(|origin| origin.name == formerly.value) {
            faults.push(formerly.fault(format!(
                "\"{}\" is still the name of an origin ({}); an origin that was renamed has one stanza, take the other away",
                formerly.value, other.place
            )));
        }
    }
    origins
}

/// The name of a stanza: it goes into rows, log fields and messages, so that its letters are few.
pub fn name<'n>(
    stanza: &mut Stanza<'_, '_>,
    mut taken: impl Iterator<Item = (&'n str, &'n str)>,
) -> Option<String> {
    let Some(text) = stanza.text(keys::NAME) else {
        if !stanza.has(keys::NAME) {
            stanza.lack(keys::NAME, "is missing; give the stanza a name, name = \"...\"".to_owned());
        }
        return None;
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.value.chars().all(plain) || text.value.chars().count() > 64 {
        stanza.faults.push(text.fault(
            "may hold letters, digits, '-', '_' and '.' only, 64 at most; choose such a name".to_owned(),
        ));
        return None;
    }
    if let Some((_, place)) = taken.find(|(name, _)| *name == text.value) {
        stanza.faults.push(
            text.fault(format!("\"{}\" is taken by the stanza at {place}; choose another name", text.value)),
        );
        return None;
    }
    Some(text.value)
}

/// A zone by its IANA name.
pub fn zone(text: &Spotted<String>, auto: bool, faults: &mut Vec<Fault>) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::get(&text.value) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let meant = match keys::nearest(&text.value, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None if known.is_empty() => "this host has no zone database, install the package tzdata".to_owned(),
        None if auto => "write a name like \"Europe/Berlin\", or \"auto\" for this host's zone".to_owned(),
        None => "write a name like \"Europe/Berlin\"".to_owned(),
    };
    faults.push(text.fault(format!("{:?} is no time zone that this host knows; {meant}", text.value)));
    None
}

/// Whether the code is a country with a numbering plan: the library also knows regions without one.
fn has_numbers(code: &str) -> bool {
    let written_so = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let region = written_so.then(|| code.parse::<Region>().ok()).flatten();
    region.is_some_and(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(region).is_some())
}

fn country(text: &Spotted<String>, faults: &mut Vec<Fault>) -> Option<String> {
    if has_numbers(&text.value) {
        return Some(text.value.clone());
    }
    let mend = match text.value.to_uppercase().as_str() {
        "UK" => "the United Kingdom is \"GB\"".to_owned(),
        upper if has_numbers(upper) => {
            format!("write it in capitals, \"{upper}\"")
        }
        _ => "write the two letters of ISO 3166, like \"DE\" or \"GB\"".to_owned(),
    };
    faults.push(text.fault(format!("{:?} is no country whose numbers are known; {mend}", text.value)));
    None
}
