//! `[keep]`: how much of the disk stays free, and how long what nobody could read is kept.

use super::keys;
use super::stanza::{Spotted, Stanza};
use std::time::Duration;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// Bytes of the disk with the state directory that stay free; `None`: 512 MiB, or 5 % where that is more.
    pub reserve: Option<u64>,
    /// Bytes that originals of rejected deliveries may take together.
    pub rejected_max: u64,
    /// Age from which they go.
    pub rejected_for: Duration,
}

const DAY: Duration = Duration::from_hours(24);

/// What holds where nothing is written.
pub fn usual() -> KeepConfig {
    KeepConfig { reserve: None, rejected_max: 1 << 30, rejected_for: DAY * 90 }
}

/// The stanza; `before` applies where it says nothing, or something wrong.
pub fn read(stanza: &mut Stanza<'_, '_>, before: &KeepConfig) -> KeepConfig {
    let reserve = size(stanza, keys::RESERVE).or(before.reserve);
    let rejected_max = size(stanza, keys::REJECTED_MAX).unwrap_or(before.rejected_max);
    let rejected_for = match stanza.numbers(keys::REJECTED_DAYS).as_deref() {
        Some([days]) if days.value > 0 => DAY * u32::try_from(days.value).unwrap_or(u32::MAX),
        Some(days) => {
            let fault = days[0].fault("is no number of days from 1 on; write 90".to_owned());
            stanza.faults.push(fault);
            before.rejected_for
        }
        None => before.rejected_for,
    };
    KeepConfig { reserve, rejected_max, rejected_for }
}

/// A size in bytes.
pub(super) fn size(stanza: &mut Stanza<'_, '_>, key: &str) -> Option<u64> {
    let text: Spotted<String> = stanza.text(key)?;
    let bytes = bytes(&text.value);
    if bytes.is_none() {
        let message = format!("{:?} is no size; write it like \"512MiB\" or \"10GB\"", text.value);
        stanza.faults.push(text.fault(message));
    }
    bytes
}

/// A whole number with a unit.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit())?);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("512MiB"), Some(512 << 20));
        assert_eq!((bytes("1 GiB"), bytes("10GB")), (Some(1 << 30), Some(10_000_000_000)));
        assert_eq!(
            (bytes("5"), bytes("GiB"), bytes("1 parsec"), bytes("99999999TiB")),
            (None, None, None, None)
        );
    }
}
