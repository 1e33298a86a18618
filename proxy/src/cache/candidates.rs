//! What a fill asks the core to confirm.

use std::sync::Arc;

use http::header::HeaderValue;
use weir_logic::cache::{FillRequest, Validators};

use super::entry::Entry;

/// Stored answers of which one may be what the core would answer.
pub(super) enum Candidates {
    /// The answer that was chosen for such a request.
    Held(Arc<Entry>),
    /// Where there is none, those that were chosen for other requests with the same key: the core may choose one of them for this one
    /// as well (RFC 9111, section 4.3.1), as it does when few of many languages are to be had.
    Others(Vec<Arc<Entry>>),
}

impl Candidates {
    /// The request, asking for confirmation; `None` where nothing can be confirmed.
    pub(super) fn request(&self, request: &FillRequest) -> Option<FillRequest> {
        match self {
            Self::Held(held) => request.conditional(&held.validators()),
            Self::Others(others) => {
                let tags = others.iter().filter_map(|entry| entry.tag_for_others());
                request.conditional(&Validators::any_of(tags))
            }
        }
    }

    /// The answer that a confirmation naming that entity tag is about, if it is known. One that names none can only be about the
    /// answer that was chosen for such a request.
    pub(super) fn confirmed(&self, etag: Option<&HeaderValue>) -> Option<&Arc<Entry>> {
        match self {
            Self::Held(held) => Some(held).filter(|held| held.validators().match_confirmation(etag)),
            Self::Others(others) => others.iter().find(|entry| etag.is_some() && entry.tag_for_others() == etag),
        }
    }
}
