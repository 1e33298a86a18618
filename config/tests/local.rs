//! `local.toml`, the configuration that README.md lets people try things with.

use std::path::Path;

use weir_config::{MemoryEnvironment, parse};

#[test]
fn the_configuration_to_try_things_with_is_right_and_raises_no_doubt() {
    let environment = MemoryEnvironment::new().file("local.toml", include_str!("../local.toml"));
    let parsed = parse(&environment, Path::new("local.toml")).expect("local.toml is right");
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
}
