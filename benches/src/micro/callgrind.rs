//! Instructions by valgrind's count.

use std::io;
use std::process::Command;

use super::Failure;

/// The instructions of one run of an operation, its preparations left out.
pub(super) fn count(name: &str) -> Result<f64, Failure> {
    let [few, many] = [FEW, MANY].map(|times| collected(name, times));
    let (few, many) = (few?, many?);
    Ok(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
}

const FEW: u64 = 1000;
const MANY: u64 = 3000;

/// The instructions of a whole process that runs the operation so many times.
fn collected(name: &str, times: u64) -> Result<u64, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
        .arg(std::env::current_exe()?)
        .args(["operate", name, &times.to_string()])
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "valgrind is not installed".to_owned(),
            _ => format!("valgrind: {error}"),
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name} failed under valgrind: {said}").into());
    }
    total(&said).ok_or_else(|| format!("valgrind does not say what it counted: {said}").into())
}

/// The count in what callgrind says at its end: `==7== Collected : 123`.
fn total(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected : "))?.1;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_valgrind_says() {
        assert_eq!(total("==7== Events    : Ir\n==7== Collected : 1234\n==7== \n"), Some(1234));
        assert_eq!(total("==7== nothing"), None);
    }
}
