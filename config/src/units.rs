//! Quantities as people write them, held as what they are.
//!
//! Every quantity prints itself in a form that reads back to the same value: `64 MiB`, `1h30m`, `0.1`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, written `64 MiB`, `4 KiB`, `1 MB` or `512 B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size of `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `count` KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// A size of `count` MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// A size of `count` GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count * 1024 * 1024 * 1024)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size as a length in memory; sizes past the address space saturate.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (count, unit, rest) = number_and_unit(text.trim()).ok_or(UnitError::NotASize)?;
        if !rest.is_empty() {
            return Err(UnitError::NotASize);
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() { UnitError::SizeWithoutUnit } else { UnitError::NotASize });
        };
        count.checked_mul(*factor).map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides the size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match binary.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{} {name}", self.0 / factor),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A part of a whole, from 0 to 1, written `0.1` or `10 %`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// A ratio, or `None` when `value` is not a number from 0 to 1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// That part of a size, rounded down.
    pub fn of(self, size: ByteSize) -> ByteSize {
        ByteSize(self.of_number(size.0))
    }

    /// That part of a number, rounded down.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number is no more than it"
    )]
    pub fn of_number(self, number: u64) -> u64 {
        (number as f64 * self.0) as u64
    }

    /// The ratio as a number from 0 to 1.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, scale) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (text.trim(), 1.0),
        };
        let value: f64 = number.parse().map_err(|_| UnitError::NotARatio)?;
        Self::new(value / scale).ok_or(UnitError::NotARatio)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a time such as `250ms`, `60s`, `24h`, `7d` or `1h30m`: whole numbers with units, the larger unit first.
///
/// # Errors
///
/// When the text is not such a time, or is longer than 36,500 days.
pub fn duration_from_text(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut last = usize::MAX;
    while !rest.is_empty() {
        let (count, unit, next) = number_and_unit(rest).ok_or(UnitError::NotATime)?;
        let Some(rank) = TIME_UNITS.iter().position(|(name, _)| *name == unit) else {
            let bare = unit.is_empty() && next.is_empty();
            return Err(if bare { UnitError::TimeWithoutUnit } else { UnitError::NotATime });
        };
        if rank >= last {
            return Err(UnitError::UnitsInDisorder);
        }
        last = rank;
        let nanos = u128::from(count) * u128::from(TIME_UNITS[rank].1);
        let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| UnitError::TooLarge)?;
        let part = u32::try_from(nanos % 1_000_000_000).map_err(|_| UnitError::TooLarge)?;
        total = total.checked_add(Duration::new(seconds, part)).ok_or(UnitError::TooLarge)?;
        rest = next;
    }
    match () {
        () if last == usize::MAX => Err(UnitError::NotATime),
        () if total > LONGEST => Err(UnitError::TooLarge),
        () => Ok(total),
    }
}

/// The time in the form that [`duration_from_text`] reads: `1h30m`, `250ms`, `0s`.
pub fn duration_to_text(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in TIME_UNITS.iter().rev() {
        let count = nanos / u128::from(*factor);
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            nanos %= u128::from(*factor);
        }
    }
    text
}

/// The size that a text probably means.
pub(crate) fn guess_size(text: &str) -> Option<String> {
    let (count, unit, rest) = number_and_unit(text.trim())?;
    let known = SIZE_UNITS.iter().map(|(name, _)| *name);
    let named =
        if unit.is_empty() { Some("B") } else { known.into_iter().find(|name| name.eq_ignore_ascii_case(unit)) };
    named.filter(|_| rest.is_empty()).map(|unit| format!("{count} {unit}"))
}

/// The time that a text probably means.
pub(crate) fn guess_duration(text: &str) -> Option<String> {
    let (count, unit, rest) = number_and_unit(text.trim())?;
    let unit = unit.to_ascii_lowercase();
    let unit = match unit.strip_suffix('s').unwrap_or(&unit) {
        "" | "sec" | "second" => "s",
        "min" | "minute" | "m" => "m",
        "hr" | "hour" | "h" => "h",
        "day" | "d" => "d",
        "msec" | "milli" | "millisecond" => "ms",
        _ => return None,
    };
    rest.is_empty().then(|| format!("{count}{unit}"))
}

/// Why a text is not the quantity that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// Not a size at all.
    NotASize,
    /// A number where a size was expected.
    SizeWithoutUnit,
    /// Not a time at all.
    NotATime,
    /// A number where a time was expected.
    TimeWithoutUnit,
    /// A time whose units do not fall.
    UnitsInDisorder,
    /// Not a number from 0 to 1, nor a percentage.
    NotARatio,
    /// Larger than any configuration can mean.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotASize => {
                "not a size; write a whole number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, as in \"64 MiB\""
            }
            Self::SizeWithoutUnit => "a size without a unit; write it as in \"64 MiB\" or \"512 B\"",
            Self::NotATime => {
                "not a time; write whole numbers with d, h, m, s, ms, us or ns, as in \"60s\" or \"1h30m\""
            }
            Self::TimeWithoutUnit => "a time without a unit; write it as in \"60s\" or \"250ms\"",
            Self::UnitsInDisorder => "not a time: each unit stands once, the larger first, as in \"1h30m\"",
            Self::NotARatio => "not a ratio; write a number from 0 to 1, or a percentage as in \"10 %\"",
            Self::TooLarge => "too large",
        })
    }
}

impl std::error::Error for UnitError {}

/// The leading whole number, the letters after it, and what remains.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count = text[..digits].parse().ok()?;
    let after = text[digits..].trim_start();
    let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
    let (unit, rest) = after.split_at(letters);
    Some((count, unit, rest.trim_start()))
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// From the smallest to the largest, in nanoseconds.
const TIME_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);
