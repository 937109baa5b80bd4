//! Times and lengths of time as a person writes them, and as the PBX's clock showed them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The wall clock of the PBX with its offset: legs of several zones stand in one list.
pub fn local(utc: &str, offset_min: i64) -> String {
    let Ok(utc_time) = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", utc) else { return utc.to_owned() };
    let offset = SignedDuration::from_mins(offset_min);
    let Ok(local) = utc_time.checked_add(offset) else { return utc.to_owned() };
    let sign = if offset_min < 0 { '-' } else { '+' };
    let minutes = offset_min.unsigned_abs();
    format!("{} {sign}{:02}:{:02}", local.strftime("%Y-%m-%d %H:%M:%S"), minutes / 60, minutes % 60)
}

/// A time: how long ago, a day, or a time in this host's zone or with its own offset.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A bare day is a civil date-time at midnight.
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(zone).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string());
    }
    let ago = length(text).ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| {
        "is no time; write \"2h\", \"3d\", \"2025-03-04\", \"2025-03-04 10:00\" or \"2025-03-04T10:00:00Z\""
            .to_owned()
    })
}

/// A length of time; a day is 24 hours: good enough for a list.
pub fn length(text: &str) -> Result<SignedDuration, String> {
    let days = || {
        let days: i64 = text.strip_suffix('d')?.trim().parse().ok()?;
        Some(SignedDuration::from_hours(days.checked_mul(24)?))
    };
    let length = text
        .parse::<SignedDuration>()
        .ok()
        .or_else(days)
        .and_then(|length| if length.is_negative() { length.checked_neg() } else { Some(length) });
    length.ok_or_else(|| "is no length of time; write \"90m\", \"2h\" or \"3d\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{length, local, moment};
    use jiff::SignedDuration;

    #[test]
    fn starts_are_shown_on_the_clock_of_the_pbx() {
        assert_eq!(local("2025-03-04 23:30:00.000", 60), "2025-03-05 00:30:00 +01:00");
        assert_eq!(local("2025-03-04 23:30:00.000", -210), "2025-03-04 20:00:00 -03:30");
        assert_eq!(local("never", 60), "never");
    }

    #[test]
    fn moments_are_days_times_and_lengths_of_time() {
        for good in ["2h", "90m", "3d", "2025-03-04", "2025-03-04 10:00", "2025-03-04T10:00:00Z"] {
            assert!(moment(good).is_ok(), "{good}");
        }
        let order: Vec<_> = ["3d", "2d", "2h"].iter().filter_map(|text| moment(text).ok()).collect();
        assert!(order.is_sorted());
        assert!(moment("yesterday").is_err());
        assert_eq!(length("2d"), Ok(SignedDuration::from_hours(48)));
        assert_eq!(length("-90m"), length("90m"));
        assert!(length("long").is_err() && length("9999999999999999999d").is_err());
    }
}
