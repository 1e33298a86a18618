//! Every wrong configuration in `bad/` gets exactly the message that stands beside it.
//!
//! `WEIR_BLESS=1 cargo test -p weir-config --test bad` writes the messages anew; read the difference before committing it.

use std::path::{Path, PathBuf};

use weir_config::{Diagnostics, MemoryEnvironment, parse};

/// The parts that every fixture needs and that are not its point: a fixture that does not begin with `#!whole` is put
/// before them.
const REST: &str = r#"
[[listener]]
address = "127.0.0.1:8080"

[core]
peers = ["core-a:80"]

[[route]]
name = "rest"
match = { path = "/{rest*}" }
class = "update"
action = "forward"
"#;

fn fixtures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the fixtures are there")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

fn problems(path: &Path) -> (Diagnostics, String) {
    let text = read(path);
    let text = if text.starts_with("#!whole") { text } else { format!("{text}{REST}") };
    let environment = MemoryEnvironment::new()
        .file("weir.toml", &text)
        .file("twice.toml", "[edge]\nregion = \"eu-west-1\"\n")
        .file("cycle.toml", "include = [\"weir.toml\"]\n")
        .file("broken.toml", "[edge\n")
        .file("route.toml", "[[route]]\nname = \"included\"\nmatch = { path = \"/v1/a/{y}\" }\nclass = \"update\"\naction = \"forward\"\n")
        .file("/etc/weir/secret", "hunter2 !")
        .with_variable("WINDOW", "soon");
    match parse(&environment, Path::new("weir.toml")) {
        Err(problems) => (problems, text),
        Ok(parsed) => (parsed.warnings, text),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn every_wrong_configuration_gets_its_message() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in fixtures() {
        let (problems, _) = problems(&path);
        let message = format!("{problems}\n");
        let expected = path.with_extension("txt");
        if bless {
            std::fs::write(&expected, &message).expect("the fixtures are writable");
        } else if read(&expected) != message {
            wrong.push(format!("{}:\n{message}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_many_fixtures_and_each_says_something() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 30, "{}", fixtures.len());
    for path in fixtures {
        assert!(!problems(&path).0.is_empty(), "{} is right", path.display());
    }
}

#[test]
fn a_fixture_is_refused_unless_its_name_says_warning() {
    for path in fixtures() {
        let warning = path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("warning-"));
        assert_eq!(problems(&path).0.has_errors(), !warning, "{}", path.display());
    }
}

#[test]
fn every_problem_has_its_place() {
    for path in fixtures() {
        let (problems, text) = problems(&path);
        for problem in problems.iter().filter(|problem| problem.file == Path::new("weir.toml")) {
            let line = text.lines().nth(problem.line - 1).unwrap_or_default();
            assert!(problem.line <= text.lines().count().max(1), "{problem}");
            assert!(problem.column <= line.chars().count() + 1, "{problem}");
        }
    }
}
