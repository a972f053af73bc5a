//! Parses and formats sizes and ages.

use chrono::{DateTime, TimeDelta, Utc};

/// Parses a number with B, kB, MB, GB, TB or KiB, MiB, GiB, TiB. Returns bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 10] = [
        ("", 1.0),
        ("b", 1.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("tib", 1_099_511_627_776.0),
    ];
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit.to_lowercase())
        .ok_or_else(|| format!("unknown unit of size `{unit}`: expected B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative; saturates when huge")]
    Ok((number * factor).round() as u64)
}

/// Parses a number with s, m (minutes), h, d or w.
pub(super) fn parse_age(text: &str) -> Result<TimeDelta, String> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(format!("unknown unit of time `{unit}`: expected s, m (minutes), h, d, w; for example `30d`")),
    };
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds; saturates when huge, and then is refused")]
    TimeDelta::try_milliseconds((number * seconds * 1e3) as i64)
        .filter(|span| *span <= TimeDelta::days(36_500))
        .ok_or_else(|| "more than a hundred years".to_owned())
}

fn number_and_unit(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().map_err(|_| "it does not begin with a number".to_owned())?;
    Ok((number, text[end..].trim()))
}

/// Formats bytes: `812 B`, `3.4 MB`.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes} B"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// Formats the time since `at`: `5m`, `7h`, `12d`.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = (now - at).num_minutes().max(0);
    match minutes {
        0..120 => format!("{minutes}m"),
        120..2880 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_read() {
        for (text, bytes) in [("812", 812), ("1.5 kB", 1500), ("50GB", 50_000_000_000), ("2GiB", 2 << 30), ("0", 0)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, minutes) in [("90m", 90), ("12h", 720), ("1.5d", 2160), ("2w", 20_160), ("0d", 0)] {
            assert_eq!(parse_age(text), Ok(TimeDelta::minutes(minutes)), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "GB", "-5GB", "5 parsecs", "1.2.3MB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for text in ["", "d", "30", "-1d", "5x", "99999999w"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        let now = Utc::now();
        assert_eq!(ago(now + TimeDelta::days(3), now), "0m");
        assert_eq!(ago(now - TimeDelta::days(3), now), "3d");
    }
}
