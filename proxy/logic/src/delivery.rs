//! What a core's status means for a batch.

/// What to do with a batch after one attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The core has it for good.
    Accepted,
    /// It may be taken later, as it is.
    Retry,
    /// It is too large: its halves may be taken.
    Halve,
    /// It will never be taken: its content is at fault.
    Bury,
}

impl Delivery {
    /// The one table from status to fate. Only a status that blames the content gives a batch up. A status that blames
    /// the path, the credentials or the moment says more about the configuration or the core than about the batch: it
    /// waits until that is mended, however long this takes.
    pub const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Accepted,
            413 => Self::Halve,
            400 | 406 | 415 | 422 => Self::Bury,
            _ => Self::Retry,
        }
    }

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retried",
            Self::Halve => "halved",
            Self::Bury => "buried",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_blames_the_content_gives_a_batch_up() {
        for status in [301, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 999] {
            assert_eq!(Delivery::of(status), Delivery::Retry, "{status}");
        }
        assert_eq!([400, 413, 204].map(Delivery::of), [Delivery::Bury, Delivery::Halve, Delivery::Accepted]);
    }
}
