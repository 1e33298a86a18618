//! Which versions of the agent misbehave: the few that do so most.
//!
//! Versions are what agents say they are, so there may be any number: a list of a fixed length, after the algorithm Space-Saving (Metwally,
//! Agrawal, El Abbadi 2005). A version that is not in a full list takes the place of the least, and its count: counts are never too low,
//! and too high by no more than `at_most_over`.

/// The versions counted most.
#[derive(Clone, Debug)]
pub struct TopVersions {
    length: usize,
    list: Vec<VersionCount>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionCount {
    /// The version, at most 64 bytes of it.
    pub version: String,
    /// How often it was counted, at most.
    pub count: u64,
    /// How much of the count may be others'.
    pub at_most_over: u64,
}

/// Bytes of a version that are kept.
const MAX_VERSION_BYTES: usize = 64;

impl TopVersions {
    /// An empty list of at most `length` versions, at least one.
    pub fn new(length: usize) -> Self {
        Self { length: length.max(1), list: Vec::new() }
    }

    /// Counts a version.
    pub fn count(&mut self, version: &str) {
        let version = shortened(version);
        if let Some(known) = self.list.iter_mut().find(|known| known.version == version) {
            known.count += 1;
            return;
        }
        if self.list.len() < self.length {
            self.list.push(VersionCount { version: version.to_owned(), count: 1, at_most_over: 0 });
            return;
        }
        if let Some(least) = self.list.iter_mut().min_by_key(|known| known.count) {
            let over = least.count;
            *least = VersionCount { version: version.to_owned(), count: over + 1, at_most_over: over };
        }
    }

    /// The list, the worst first.
    pub fn worst_first(&self) -> Vec<VersionCount> {
        let mut list = self.list.clone();
        list.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.version.cmp(&other.version)));
        list
    }
}

fn shortened(version: &str) -> &str {
    let mut end = version.len().min(MAX_VERSION_BYTES);
    while !version.is_char_boundary(end) {
        end -= 1;
    }
    &version[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stays_in_the_list_whatever_else_is_said() {
        let mut versions = TopVersions::new(4);
        for number in 0..1000 {
            versions.count("agent/7.1.3");
            versions.count(&format!("made-up/{number}"));
        }
        let list = versions.worst_first();
        assert_eq!(
            (list.len(), list[0].version.as_str(), list[0].count, list[0].at_most_over),
            (4, "agent/7.1.3", 1000, 0)
        );
        assert!(list[1].count - list[1].at_most_over <= 1);
    }

    #[test]
    fn a_long_version_is_cut_between_characters() {
        let mut versions = TopVersions::new(1);
        versions.count(&"\u{e9}".repeat(40));
        versions.count(&format!("x{}", "\u{e9}".repeat(40)));
        assert_eq!(versions.worst_first()[0].version.len(), 63);
    }
}
