//! From an upload's body to its records: on the thread that serves the agent where that is little work, else on another.

use std::sync::Arc;

use tokio::sync::Semaphore;
use weir_batch::{Encoding, Framing, InflateError, Upload, UploadError, UploadLimits};

use crate::budget::{Hold, NoRoom};

/// How many large uploads are unpacked at once.
pub(super) struct Unpacker {
    places: Arc<Semaphore>,
}

/// Large uploads unpacked at once. The rest wait in the order in which they came, each with its body in memory.
const PLACES: usize = 4;

impl Default for Unpacker {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)) }
    }
}

/// The records of an upload, and the memory that they take.
pub(super) struct Unpacked {
    pub(super) upload: Upload,
    pub(super) hold: Hold,
}

/// Why there are no records.
pub(super) enum Unread {
    /// For what is in the upload.
    Upload(UploadError),
    /// For want of memory.
    NoRoom(NoRoom),
    /// The thread that worked on it has died.
    Lost,
}

impl Unpacker {
    /// Unpacks and cuts a body. All memory that this takes is taken through `hold`; in the end that of the records is
    /// left in it. Should the caller go away meanwhile, the work goes on to its end, and counts until then.
    pub(super) async fn unpack(
        &self,
        body: &[u8],
        encoding: Encoding,
        framing: Framing,
        limits: UploadLimits,
        mut hold: Hold,
    ) -> Result<Unpacked, Unread> {
        match encoding.unpack_small(body, &limits.inflate, &mut hold) {
            Ok(Some(unpacked)) => return cut(unpacked, framing, &limits, hold),
            Ok(None) => {}
            Err(error) => return Err(unread(error.into(), &hold)),
        }
        let copied = Encoding::Identity.unpack(body, &limits.inflate, &mut hold);
        let copy = copied.map_err(|error| unread(error.into(), &hold))?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Unread::Lost)?;
        let working = tokio::task::spawn_blocking(move || {
            let _until_done = place;
            let body = match encoding {
                Encoding::Identity => copy,
                Encoding::Compressed(_) => {
                    let unpacked = encoding.unpack(&copy, &limits.inflate, &mut hold);
                    let unpacked = unpacked.map_err(|error| unread(error.into(), &hold))?;
                    drop(copy);
                    hold.keep(unpacked.capacity());
                    unpacked
                }
            };
            cut(body, framing, &limits, hold)
        });
        working.await.map_err(|_| Unread::Lost)?
    }
}

fn cut(body: Vec<u8>, framing: Framing, limits: &UploadLimits, mut hold: Hold) -> Result<Unpacked, Unread> {
    let mut upload = Upload::cut(body, framing, limits).map_err(Unread::Upload)?;
    // Of a body that was mostly space or refused records, what is left would keep all of it in memory.
    if upload.lines.capacity() > 2 * upload.lines.len() {
        upload.lines.shrink_to_fit();
    }
    hold.keep(upload.lines.capacity());
    Ok(Unpacked { upload, hold })
}

fn unread(error: UploadError, hold: &Hold) -> Unread {
    match error {
        UploadError::Inflate(InflateError::NoRoom) => Unread::NoRoom(hold.refused()),
        error => Unread::Upload(error),
    }
}
