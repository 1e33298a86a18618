//! A plain request as the walk sees it.

use bytes::Bytes;
use weir_logic::Headers;
use weir_logic::strict::section::Section;

use super::super::body::BodyError;
use super::super::exchange::{Exchange, Unwritten};
use super::write;
use crate::accept::Plain;
use crate::answer::Answer;
use crate::clock::Clock;

/// A plain request, its header section cut into its parts.
pub(super) struct PlainExchange<'a, 'b> {
    section: Section<'a>,
    is_head: bool,
    clock: Clock,
    request: &'a mut Plain<'b>,
}

impl<'a, 'b> PlainExchange<'a, 'b> {
    pub(super) fn new(section: Section<'a>, is_head: bool, clock: Clock, request: &'a mut Plain<'b>) -> Self {
        Self { section, is_head, clock, request }
    }
}

impl Exchange for PlainExchange<'_, '_> {
    fn headers(&self) -> &dyn Headers {
        &self.section
    }

    fn is_http11(&self) -> bool {
        true
    }

    async fn tell_to_continue(&mut self) -> Result<(), BodyError> {
        self.request.write(b"HTTP/1.1 100 Continue\r\n\r\n", b"").await.map_err(|_| BodyError::Gone)
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.request.read_body().await.map_err(|_| BodyError::Gone)
    }

    fn is_body_done(&mut self) -> bool {
        self.request.is_body_done()
    }

    fn body_read(&self) -> u64 {
        self.request.body_read()
    }

    fn is_kept(&self) -> bool {
        self.request.is_kept()
    }

    fn close_after(&mut self) {
        self.request.close_after();
    }

    async fn write(&mut self, answer: Answer, written: &mut u64) -> Result<(), Unwritten> {
        write::answer(self.request, self.is_head, self.clock.now(), answer, written).await
    }
}
