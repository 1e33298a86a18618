//! What things take of the heap, for counts that bounds are held to. Figures are those of glibc's allocator on a 64-bit machine and
//! err on the side of too much: a bound in the configuration is a promise about the process.

/// The bytes that an allocation of `bytes` takes: a word of bookkeeping, sixteens, and at least two of them.
pub const fn allocation(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16),
    }
}

/// The same for a [`bytes::Bytes`] of this length that has been cloned: it is counted in an allocation of its own.
pub const fn shared(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { allocation(bytes) + allocation(3 * size_of::<usize>()) }
}

/// The bytes of one place in a hash table of entries of this size. A table doubles when seven eighths are taken, so that half of it
/// or more may be free.
pub const fn table_place(entry: usize) -> usize {
    (entry + 1) * 16 / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_sixteens_with_a_word_of_bookkeeping() {
        assert_eq!([0, 1, 24, 25, 40, 41].map(allocation), [0, 32, 32, 48, 48, 64]);
        assert_eq!([shared(0), shared(100)], [0, 112 + 32]);
        assert_eq!(table_place(48), 112);
    }
}
