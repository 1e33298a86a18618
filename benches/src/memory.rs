//! What a process holds in memory.

use std::io;

/// The proportional set size of a process, in bytes.
pub(crate) fn held(process: u32) -> io::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    proportional(&text).ok_or_else(|| io::Error::other("the system does not say how much memory a process holds"))
}

fn proportional(smaps: &str) -> Option<f64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_proc() {
        let text = "5581-7ffe ---p 00000000 00:00 0    [rollup]\nRss:   8192 kB\nPss:   2048 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(proportional(text), Some(2048.0 * 1024.0));
        assert_eq!(proportional(""), None);
    }
}
