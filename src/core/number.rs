//! Formats numbers for people.

use crate::event::Measurement;

/// Formats a metric with three or four significant digits, in scientific notation where a plain number would hide them.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        value.to_string()
    } else if size == 0.0 {
        "0".into()
    } else if size < 1e-3 {
        format!("{value:.1e}")
    } else if size < 10.0 {
        format!("{value:.3}")
    } else if size < 1000.0 {
        format!("{value:.1}")
    } else if size < 1e7 {
        format!("{value:.0}")
    } else {
        format!("{value:.2e}")
    }
}

/// Formats a difference like [`number`], with its sign.
pub fn signed(value: f64) -> String {
    format!("{}{}", if value > 0.0 { "+" } else { "" }, number(value))
}

/// Formats bytes of memory: `3.9 GiB`.
pub fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Formats a part of a memory: `12.3 of 80.0 GiB`.
pub fn gib_of(part: u64, whole: u64) -> String {
    format!("{} of {}", gib(part).trim_end_matches(" GiB"), gib(whole))
}

/// Formats a throughput: `812`, `12.3k`.
pub fn rate(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.1}k", value / 1000.0)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Formats seconds as `0.4s`, `12s`, `3m05s`, `2h07m`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 9.95; saturates when huge")]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

/// Formats an estimate with its 95% interval: `0.41 [0.33, 0.49]`.
pub fn measurement(measured: &Measurement) -> String {
    match measured.interval {
        Some(ends) => format!("{} {}", short(measured.value), interval(ends)),
        None => short(measured.value),
    }
}

/// Formats the ends of an interval: `[0.33, 0.49]`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("[{}, {}]", short(low), short(high))
}

/// Formats a value with two decimals below 100 and fewer above, because further digits lie within the interval.
fn short(value: f64) -> String {
    if !value.is_finite() {
        value.to_string()
    } else if value.abs() < 100.0 {
        format!("{value:.2}")
    } else if value.abs() < 1e6 {
        format!("{value:.0}")
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_whatever_their_size() {
        let shown: Vec<String> = [0.0, 3e-5, 0.4126, 2.0, 41.26, 812.34, 12345.6, 1.5e9].map(number).into();
        assert_eq!(shown, ["0", "3.0e-5", "0.413", "2.000", "41.3", "812.3", "12346", "1.50e9"]);
    }

    #[test]
    fn durations_use_the_unit_that_fits() {
        let shown: Vec<String> = [0.44, 9.96, 59.6, 185.0, 7620.0].map(duration).into();
        assert_eq!(shown, ["0.4s", "10s", "1m00s", "3m05s", "2h07m"]);
    }

    #[test]
    fn a_measurement_shows_its_interval() {
        let measured = Measurement { value: 0.4125, interval: Some((0.33, 0.4949)), count: Some(160) };
        assert_eq!(measurement(&measured), "0.41 [0.33, 0.49]");
        assert_eq!(measurement(&Measurement { interval: None, ..measured }), "0.41");
    }
}
