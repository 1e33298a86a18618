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
    /// The answer says which rows the core has, which it refuses and which it wants again.
    Partial,
    /// Some row in it is at fault: it is looked for, and the others may be taken.
    Isolate,
    /// It will never be taken: all of it is at fault.
    Bury,
}

impl Delivery {
    /// The one table from status to fate. Only a status that blames the content gives a batch up. A status that blames
    /// the path, the credentials or the moment says more about the configuration or the core than about the batch: it
    /// waits until that is mended, however long this takes.
    pub const fn of(status: u16) -> Self {
        match status {
            207 => Self::Partial,
            200..=299 => Self::Accepted,
            413 => Self::Halve,
            400 | 422 => Self::Isolate,
            406 | 415 => Self::Bury,
            _ => Self::Retry,
        }
    }

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retried",
            Self::Halve => "halved",
            Self::Partial => "partial",
            Self::Isolate => "isolating",
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
        assert_eq!([415, 413, 204].map(Delivery::of), [Delivery::Bury, Delivery::Halve, Delivery::Accepted]);
        assert_eq!([400, 422, 207].map(Delivery::of), [Delivery::Isolate, Delivery::Isolate, Delivery::Partial]);
    }
}
