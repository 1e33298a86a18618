//! The wire formats of records: uploads in, batches out. The contract with the core's teams, in code.
//!
//! An agent's upload is unpacked, cut into records and checked by [`Upload::parse`].
//!
//! Pure: no clock, no file, no thread. What merging means is not known here.

mod compression;
mod json;
mod upload;

pub use compression::{Compression, Encoding, InflateError, UnknownEncoding};
pub use upload::{Framing, Reason, Refusal, Upload, UploadError, UploadLimits};
