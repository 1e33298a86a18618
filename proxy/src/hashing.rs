//! The hash of tables that every request looks into: under a secret of the process, so that nobody can choose names or keys that meet.
//!
//! The standard library's hash keeps the same promise for several times the instructions, which showed in the cost of a hit.

use ahash::RandomState;

/// A secret of its own for each table.
pub(crate) fn secret() -> RandomState {
    RandomState::with_seeds(rand::random(), rand::random(), rand::random(), rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tables_have_two_secrets() {
        let (one, other) = (secret(), secret());
        assert_ne!(one.hash_one("a-1"), other.hash_one("a-1"));
        assert_eq!(one.hash_one("a-1"), one.clone().hash_one("a-1"));
    }
}
