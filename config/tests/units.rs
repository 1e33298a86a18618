//! Quantities read as people write them, and print in a form that reads back.

use std::time::Duration;

use proptest::prelude::*;
use weir_config::{ByteSize, Ratio, UnitError, duration_from_text, duration_to_text};

#[test]
fn sizes_read_with_decimal_and_binary_units() {
    let size = |text: &str| text.parse::<ByteSize>().map(ByteSize::bytes);
    assert_eq!(size("64 MiB"), Ok(64 << 20));
    assert_eq!(size("4KiB"), Ok(4096));
    assert_eq!(size("1 MB"), Ok(1_000_000));
    assert_eq!(size("512 B"), Ok(512));
    assert_eq!(size("0 B"), Ok(0));
    assert_eq!(size(" 2 TiB "), Ok(2 << 40));
}

#[test]
fn wrong_sizes_are_refused() {
    let size = |text: &str| text.parse::<ByteSize>();
    assert_eq!(size("512"), Err(UnitError::SizeWithoutUnit));
    assert_eq!(size("1.5 MiB"), Err(UnitError::NotASize));
    assert_eq!(size("-1 B"), Err(UnitError::NotASize));
    assert_eq!(size("1 MiB 2 KiB"), Err(UnitError::NotASize));
    assert_eq!(size(""), Err(UnitError::NotASize));
    assert_eq!(size("99999999 TiB"), Err(UnitError::TooLarge));
}

#[test]
fn sizes_print_their_largest_binary_unit() {
    assert_eq!(ByteSize::mib(64).to_string(), "64 MiB");
    assert_eq!(ByteSize::gib(4).to_string(), "4 GiB");
    assert_eq!(ByteSize::new(1500).to_string(), "1500 B");
    assert_eq!(ByteSize::new(0).to_string(), "0 B");
}

#[test]
fn times_read_alone_and_composed() {
    assert_eq!(duration_from_text("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration_from_text("60s"), Ok(Duration::from_secs(60)));
    assert_eq!(duration_from_text("5m"), Ok(Duration::from_secs(300)));
    assert_eq!(duration_from_text("24h"), duration_from_text("1d"));
    assert_eq!(duration_from_text("1h30m"), Ok(Duration::from_secs(5400)));
    assert_eq!(duration_from_text("1 h 30 m"), Ok(Duration::from_secs(5400)));
    assert_eq!(duration_from_text("0s"), Ok(Duration::ZERO));
}

#[test]
fn wrong_times_are_refused() {
    assert_eq!(duration_from_text("60"), Err(UnitError::TimeWithoutUnit));
    assert_eq!(duration_from_text("30m 1h"), Err(UnitError::UnitsInDisorder));
    assert_eq!(duration_from_text("1s1s"), Err(UnitError::UnitsInDisorder));
    assert_eq!(duration_from_text("1.5s"), Err(UnitError::NotATime));
    assert_eq!(duration_from_text("-1s"), Err(UnitError::NotATime));
    assert_eq!(duration_from_text(""), Err(UnitError::NotATime));
    assert_eq!(duration_from_text("1 week"), Err(UnitError::NotATime));
    assert_eq!(duration_from_text("99999999999d"), Err(UnitError::TooLarge));
}

#[test]
fn ratios_read_as_numbers_and_percentages() {
    assert_eq!("10 %".parse().map(Ratio::value), Ok(0.1));
    assert_eq!("0.25".parse().map(Ratio::value), Ok(0.25));
    assert_eq!("1.1".parse::<Ratio>(), Err(UnitError::NotARatio));
    assert_eq!("NaN".parse::<Ratio>(), Err(UnitError::NotARatio));
    assert_eq!("-1 %".parse::<Ratio>(), Err(UnitError::NotARatio));
}

proptest! {
    #[test]
    fn a_printed_size_reads_back(bytes: u64) {
        let size = ByteSize::new(bytes);
        prop_assert_eq!(size.to_string().parse(), Ok(size));
    }

    #[test]
    fn a_printed_time_reads_back(seconds in 0_u64..3_000_000_000, nanos in 0_u32..1_000_000_000) {
        let time = Duration::new(seconds, nanos);
        prop_assert_eq!(duration_from_text(&duration_to_text(time)), Ok(time));
    }

    #[test]
    fn a_printed_ratio_reads_back(value in 0.0..=1.0) {
        let ratio = Ratio::new(value).expect("from 0 to 1");
        prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
    }

    #[test]
    fn no_text_makes_a_quantity_panic(text in "\\PC{0,24}") {
        let size = text.parse::<ByteSize>().err();
        prop_assert!(matches!(size, None | Some(UnitError::NotASize | UnitError::SizeWithoutUnit | UnitError::TooLarge)));
        prop_assert!(matches!(text.parse::<Ratio>().err(), None | Some(UnitError::NotARatio)));
        prop_assert_ne!(duration_from_text(&text), Err(UnitError::NotASize));
    }
}
