//! Unpacking within bounds of bytes, of ratio and of memory, whatever the input claims.
//!
//! A body that unpacks to at most [`SMALL_BYTES`] is unpacked at once, into memory that is asked for as it grows. A
//! larger one is unpacked twice: first its bytes are counted and thrown away, then they are kept in memory of exactly
//! that size. So a body that is refused for its size never takes more than [`SMALL_BYTES`] and its decoder's window, and
//! one that is taken never takes more than it is long.
//!
//! Decoders need memory beside what they yield: 256 KiB for gzip, up to 8.5 MiB for Zstandard, three blocks of up to 4 MiB
//! for LZ4. It is asked for as well. Several members or frames in a row are one body; a body that is cut short or goes on
//! after its end is an error, never a shorter body.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use crate::compression::{Compression, Encoding};

/// Who grants memory for unpacking, byte for byte before it is used.
pub trait Allowance {
    /// Grants `bytes` more; `false` when there are not as many, and nothing is granted.
    #[must_use]
    fn grow(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` back that were granted.
    fn shrink(&mut self, bytes: usize);
}

/// Grants all that is asked for: for what nobody from outside has sent, and for bodies with a bound that is small enough.
#[derive(Clone, Copy, Debug)]
pub struct AnyAmount;

impl Allowance for AnyAmount {
    fn grow(&mut self, _bytes: usize) -> bool {
        true
    }

    fn shrink(&mut self, _bytes: usize) {}
}

/// What a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflateLimits {
    /// Bytes once unpacked, at most.
    pub max_bytes: usize,
    /// Bytes once unpacked for each byte of the body, at most. Bodies that unpack to at most [`SMALL_BYTES`] are not
    /// asked.
    pub max_ratio: usize,
}

/// Bodies that unpack to at most so many bytes are unpacked at once.
pub const SMALL_BYTES: usize = 256 * 1024;

/// The memory that a decoder takes, at most, beside what it yields.
pub const DECODER_BYTES: usize = 3 * LZ4_MAX_BLOCK + 128 * 1024;

/// Why a body could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More bytes came out than may: 413.
    #[error("the body is longer than {max_bytes} bytes once unpacked")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// More bytes came out for each byte that went in than may: 413.
    #[error("the body unpacks to more than {max_ratio} times its length")]
    TooDense {
        /// The bound.
        max_ratio: usize,
    },
    /// The memory for it was not granted: it may be later.
    #[error("there is no memory to unpack the body now")]
    NoRoom,
    /// The bytes are not what the encoding says: 400.
    #[error("the body is no valid {encoding}: {cause}")]
    Corrupt {
        /// The encoding's name.
        encoding: &'static str,
        /// What the decoder says.
        cause: String,
    },
}

impl InflateLimits {
    /// The bytes to which a body of `length` bytes may unpack, and the error when it does not keep to that.
    fn bound(&self, length: usize) -> (usize, InflateError) {
        let by_ratio = self.max_ratio.saturating_mul(length).max(SMALL_BYTES);
        if by_ratio < self.max_bytes {
            (by_ratio, InflateError::TooDense { max_ratio: self.max_ratio })
        } else {
            (self.max_bytes, InflateError::TooLarge { max_bytes: self.max_bytes })
        }
    }
}

impl Encoding {
    /// Unpacks `body` into at most `max_bytes` bytes, for bodies of our own: neither ratio nor memory is asked.
    pub fn inflate(self, body: &[u8], max_bytes: usize) -> Result<Cow<'_, [u8]>, InflateError> {
        match self {
            Self::Identity if body.len() > max_bytes => Err(InflateError::TooLarge { max_bytes }),
            Self::Identity => Ok(Cow::Borrowed(body)),
            Self::Compressed(compression) => {
                let mut memory = AnyAmount;
                let unpacked = pass(compression, body, Unpacking::into_memory(&mut memory, max_bytes, 0))?;
                unpacked.map(|bytes| Cow::Owned(bytes.keep())).ok_or(InflateError::TooLarge { max_bytes })
            }
        }
    }

    /// Unpacks `body` if that is little work; `None` when it is more than [`SMALL_BYTES`]. What is given back, by its
    /// capacity, is granted by `memory`; there is room for one byte more in it.
    pub fn unpack_small(
        self,
        body: &[u8],
        limits: &InflateLimits,
        memory: &mut dyn Allowance,
    ) -> Result<Option<Vec<u8>>, InflateError> {
        let Self::Compressed(compression) = self else {
            let small = body.len() <= SMALL_BYTES.min(limits.max_bytes);
            return if small { copy(body, limits, memory).map(Some) } else { Ok(None) };
        };
        let (bound, error) = limits.bound(body.len());
        let expected = body.len().saturating_mul(EXPECTED_RATIO);
        match pass(compression, body, Unpacking::into_memory(memory, bound.min(SMALL_BYTES), expected))? {
            Some(unpacked) => Ok(Some(unpacked.keep())),
            None if bound > SMALL_BYTES => Ok(None),
            None => Err(error),
        }
    }

    /// Unpacks `body`, however large. What is given back, by its capacity, is granted by `memory`; there is room for one
    /// byte more in it. Takes seconds of a processor for each gibibyte that `limits` allow.
    pub fn unpack(
        self,
        body: &[u8],
        limits: &InflateLimits,
        memory: &mut dyn Allowance,
    ) -> Result<Vec<u8>, InflateError> {
        let Self::Compressed(compression) = self else { return copy(body, limits, memory) };
        let (bound, error) = limits.bound(body.len());
        let counted = pass(compression, body, Unpacking::counting(memory, bound))?.ok_or(error)?.written;
        let unpacked = pass(compression, body, Unpacking::into_memory(memory, counted, counted))?;
        // The same bytes give the same bytes.
        unpacked.map(Unpacking::keep).ok_or(InflateError::TooLarge { max_bytes: counted })
    }
}

fn copy(body: &[u8], limits: &InflateLimits, memory: &mut dyn Allowance) -> Result<Vec<u8>, InflateError> {
    if body.len() > limits.max_bytes {
        return Err(InflateError::TooLarge { max_bytes: limits.max_bytes });
    }
    if !memory.grow(body.len() + 1) {
        return Err(InflateError::NoRoom);
    }
    let mut copy = Vec::with_capacity(body.len() + 1);
    copy.extend_from_slice(body);
    Ok(copy)
}

/// What small bodies of events unpack to, for each byte: the first guess, which saves them from growing.
const EXPECTED_RATIO: usize = 8;

/// One pass over a body; `None` when more bytes came out than may.
fn pass<'m>(
    compression: Compression,
    body: &[u8],
    mut unpacking: Unpacking<'m>,
) -> Result<Option<Unpacking<'m>>, InflateError> {
    let passed = copy_inflated(compression, body, &mut unpacking);
    match (unpacking.fault, passed) {
        (Some(Fault::Overrun), _) => Ok(None),
        (Some(Fault::NoRoom), _) => Err(InflateError::NoRoom),
        (None, Ok(())) => Ok(Some(unpacking)),
        (None, Err(cause)) => Err(InflateError::Corrupt { encoding: compression.name(), cause: cause.to_string() }),
    }
}

fn copy_inflated(compression: Compression, body: &[u8], output: &mut Unpacking<'_>) -> io::Result<()> {
    match compression {
        Compression::Gzip => {
            output.reserve(GZIP_BYTES)?;
            io::copy(&mut MultiGzDecoder::new(body), output).map(drop)
        }
        Compression::Zstd => {
            // A window fills as bytes come out.
            output.reserve(ZSTD_BYTES + output.max_bytes.min(1 << ZSTD_WINDOW_LOG))?;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            io::copy(&mut decoder, output).map(drop)
        }
        Compression::Lz4 => copy_lz4(body, output),
    }
}

/// zlib's state and window, and the names that a header may carry.
const GZIP_BYTES: usize = 256 * 1024;
/// Windows of up to 8 MiB, as RFC 8878 section 3.1.1.1.2 asks every decoder to support.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The decoder's state and a block at either side of it.
const ZSTD_BYTES: usize = 512 * 1024;
const LZ4_MAX_BLOCK: usize = 4 << 20;

/// The frame decoder takes the end of the input for the end of the frame. It asks past the input's end only when it
/// still expects something, which is how a frame that was cut between two blocks is told from a whole one.
fn copy_lz4(body: &[u8], output: &mut Unpacking<'_>) -> io::Result<()> {
    let mut input = Watched { rest: body, ran_out: false };
    loop {
        // A packed block, and two unpacked ones where blocks refer to the one before.
        output.reserve(3 * lz4_block_bytes(input.rest)? + 128 * 1024)?;
        io::copy(&mut Plain(FrameDecoder::new(&mut input)), output)?;
        if input.ran_out {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the frame is cut short"));
        }
        if input.rest.is_empty() {
            return Ok(());
        }
    }
}

/// The size of a frame's blocks, at most, which its decoder takes whatever follows. The format that came before frames
/// had blocks of 8 MiB; no agent has a reason to send it.
fn lz4_block_bytes(frame: &[u8]) -> io::Result<usize> {
    const BEFORE_FRAMES: [u8; 4] = 0x184c_2102_u32.to_le_bytes();
    if frame.starts_with(&BEFORE_FRAMES) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a legacy frame"));
    }
    Ok(match frame.get(5).map(|descriptor| descriptor >> 4 & 7) {
        Some(4) => 64 << 10,
        Some(5) => 256 << 10,
        Some(6) => 1 << 20,
        Some(7) => LZ4_MAX_BLOCK,
        // The decoder refuses any other.
        _ => 0,
    })
}

struct Watched<'a> {
    rest: &'a [u8],
    ran_out: bool,
}

impl Read for &mut Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ran_out |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

/// Hides what else the frame decoder is but a reader: it must not be asked again once it has said that a frame has
/// ended.
struct Plain<R>(R);

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Where unpacked bytes go, and the memory that was granted for them and for their decoder.
struct Unpacking<'m> {
    memory: &'m mut dyn Allowance,
    decoder_bytes: usize,
    output: Vec<u8>,
    keeps: bool,
    written: usize,
    max_bytes: usize,
    fault: Option<Fault>,
}

#[derive(Clone, Copy)]
enum Fault {
    Overrun,
    NoRoom,
}

impl<'m> Unpacking<'m> {
    /// Keeps up to `max_bytes` bytes; about `expected` are.
    fn into_memory(memory: &'m mut dyn Allowance, max_bytes: usize, expected: usize) -> Self {
        let mut unpacking =
            Self { memory, decoder_bytes: 0, output: Vec::new(), keeps: true, written: 0, max_bytes, fault: None };
        unpacking.fault = unpacking.make_room(expected.min(max_bytes)).err().map(|_| Fault::NoRoom);
        unpacking
    }

    /// Counts up to `max_bytes` bytes.
    fn counting(memory: &'m mut dyn Allowance, max_bytes: usize) -> Self {
        Self { memory, decoder_bytes: 0, output: Vec::new(), keeps: false, written: 0, max_bytes, fault: None }
    }

    /// What was unpacked; its memory stays granted.
    fn keep(mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Asks for a decoder's memory.
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let more = bytes.saturating_sub(self.decoder_bytes);
        self.grow(more)?;
        self.decoder_bytes += more;
        Ok(())
    }

    /// Sees to room for `more` bytes and one. While a vector moves, both its places count.
    fn make_room(&mut self, more: usize) -> io::Result<()> {
        let needed = self.output.len() + more + 1;
        let held = self.output.capacity();
        if needed > held {
            let capacity = needed.max((2 * held).min(self.max_bytes.saturating_add(1)));
            self.grow(capacity)?;
            self.output.reserve_exact(capacity - self.output.len());
            self.memory.shrink(held);
        }
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if self.fault.is_none() && self.memory.grow(bytes) {
            return Ok(());
        }
        self.fault = self.fault.or(Some(Fault::NoRoom));
        Err(io::Error::other("no room"))
    }
}

impl Write for Unpacking<'_> {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if chunk.len() > self.max_bytes - self.written {
            self.fault = Some(Fault::Overrun);
            return Err(io::Error::other("too large"));
        }
        if self.keeps {
            self.make_room(chunk.len())?;
            self.output.extend_from_slice(chunk);
        }
        self.written += chunk.len();
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Unpacking<'_> {
    fn drop(&mut self) {
        self.memory.shrink(self.decoder_bytes + self.output.capacity());
    }
}

#[cfg(test)]
mod tests;
