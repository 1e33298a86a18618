//! The wire formats of records: uploads in, batches out. The contract with the core's teams, in code.
//!
//! An agent's upload is unpacked, cut into records and checked by [`Upload::parse`]. Rows that leave for the core are
//! written by the functions in [`row`], gathered by a [`BatchEncoder`] into one compressed payload, and kept until the
//! core has it as a [`BatchFile`]. [`Batch::open`] reads either form back, for `weir batch cat` and for a sender that
//! must cut a batch in two.
//!
//! Pure: no clock, no file, no thread. What merging means is not known here.

mod answer;
mod compression;
mod cutter;
mod encoder;
mod file;
mod id;
mod inflate;
mod json;
pub mod row;
mod shapes;
mod upload;

pub use answer::PartialAnswer;
pub use compression::{Compression, Encoding, UnknownEncoding};
pub use encoder::{BatchEncoder, Counts, Format, Payload};
pub use file::{Batch, BatchFile, BatchMeta, FileError, Part, Refused};
pub use id::{BatchId, InvalidBatchId, Piece};
pub use inflate::{Allowance, AnyAmount, DECODER_BYTES, InflateError, InflateLimits, SMALL_BYTES};
pub use upload::{Framing, Reason, Refusal, Upload, UploadError, UploadLimits};
