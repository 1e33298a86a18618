//! What several targets share: a way to cut one input into parts, and a file system in memory.
//!
//! The targets themselves stand in `fuzz_targets`, one parser each. None of this is part of the product.

mod memory;

pub use memory::Memory;

/// Cuts an input into its parts at lines of three dashes. Seeds are written that way, so that people can read them.
pub fn sections(input: &str) -> impl Iterator<Item = &str> {
    input.split("\n---\n")
}

/// A field value as a header map takes it, or nothing when no HTTP parser would let it through.
pub fn field(text: &str) -> Option<http::HeaderValue> {
    http::HeaderValue::from_bytes(text.trim_ascii().as_bytes()).ok()
}

/// A batch file whose checksums are right and whose meta and payload are anyone's; they part at the first line feed.
pub fn batch_file(input: &[u8]) -> Vec<u8> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (meta, payload) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let mut bytes = b"WEIRBAT\0\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&u32::try_from(meta.len()).expect("inputs are short").to_le_bytes());
    bytes.extend_from_slice(meta);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes
}
