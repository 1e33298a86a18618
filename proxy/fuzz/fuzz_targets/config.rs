//! The operator's file, an include and a secret. A text is refused with places that exist and words for them, or it is
//! taken, and then its canonical text says the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weir_config::{MemoryEnvironment, changes, parse, to_toml};
use weir_fuzz::sections;

fuzz_target!(|input: &str| {
    let mut parts = sections(input);
    let mut part = || parts.next().unwrap_or_default();
    let files = [("weir.toml", part()), ("more.toml", part()), ("secret", part())];
    let environment = files
        .iter()
        .fold(MemoryEnvironment::new(), |known, (name, text)| known.file(*name, *text))
        .with_variable("VARIABLE", part());
    let problems = match parse(&environment, Path::new("weir.toml")) {
        Ok(parsed) => {
            assert!(!parsed.warnings.has_errors(), "taken with errors");
            let text = to_toml(&parsed.config);
            let alone = MemoryEnvironment::new().file("weir.toml", text.as_str());
            let again = parse(&alone, Path::new("weir.toml"))
                .unwrap_or_else(|problems| panic!("the canonical text is refused: {text}\n{problems}"));
            assert_eq!(changes(&parsed.config, &again.config), []);
            assert_eq!(parsed.config, again.config);
            parsed.warnings
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            problems
        }
    };
    assert_eq!(problems.is_empty(), problems.to_string().is_empty());
    assert_eq!(problems.is_empty(), problems.coloured().is_empty());
    for problem in &problems {
        let (_, text) = files.iter().find(|(name, _)| Path::new(name) == problem.file).expect("a file that was read");
        let line = text.split('\n').nth(problem.line - 1).expect("a line that is there");
        assert!(problem.column <= line.chars().count() + 1, "{problem} stands past the end of {line:?}");
        assert!(!problem.message.is_empty());
    }
});
