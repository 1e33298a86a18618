//! Figures as people write them.

/// A part of a whole.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// A time as people write it, to two or three digits.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        zero if zero <= 0.0 => "0s".to_owned(),
        short if short < 1.0 => format!("{:.0}ms", short * 1000.0),
        short if short < 10.0 => format!("{}s", (short * 10.0).round() / 10.0),
        short if short < 600.0 => format!("{short:.0}s"),
        long if long < 36_000.0 => format!("{}m", (long / 6.0).round() / 10.0),
        long if long < 864_000.0 => format!("{}h", (long / 360.0).round() / 10.0),
        long => format!("{:.0}d", long / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_do() {
        let written: Vec<_> = [0.0, 0.25, 1.25, 60.0, 599.0, 600.0, 3_600.0, 86_400.0, 864_000.0].map(time).into();
        assert_eq!(written, ["0s", "250ms", "1.3s", "60s", "599s", "10m", "60m", "24h", "10d"]);
    }
}
