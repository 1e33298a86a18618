//! A body that the core breaks off: the rest is asked for, so that a break costs the core the rest and not the whole, and those who are
//! reading notice a pause.
//!
//! What may be joined to what is there is said in `weir_logic::cache::Resumption`. Each request for a rest passes the core's gate as any
//! other. What has come is proven as a whole body is: by its announced length, by what a manifest says of it, and by its hash from then on.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderMap;
use weir_logic::cache::Resumption;

use super::Shell;
use super::fill::Order;
use super::packages::{Broken, Part};
use crate::upstream::OriginError;

type Pieces = BoxStream<'static, Result<Bytes, OriginError>>;

impl Order {
    /// Writes the body of an answer with these headers to its end, over as many requests as it takes: at most [`MAX_REQUESTS`], of which
    /// [`MAX_BARREN`] in a row bring nothing. The fill's time bounds all of them.
    pub(super) async fn brought(
        &self,
        shell: &Shell,
        headers: &HeaderMap,
        part: &mut Part,
        body: Pieces,
    ) -> Result<(), Broken> {
        let resumption = Resumption::of(headers);
        let (mut body, mut barren) = (Some(body), 0);
        let mut broken = Broken::Length;
        for _ in 0..MAX_REQUESTS {
            let had = part.received();
            if let Some(body) = body.take() {
                match part.fill(body).await {
                    Ok(()) => return Ok(()),
                    Err(fatal) if !can_be_mended(&fatal, part) => return Err(fatal),
                    Err(mendable) => broken = mendable,
                }
            }
            barren = if part.received() > had { 0 } else { barren + 1 };
            let Some(resumption) = resumption.as_ref().filter(|_| barren < MAX_BARREN && part.received() > 0) else {
                break;
            };
            tokio::time::sleep(pause(barren)).await;
            body = self.rest(shell, resumption, part).await?;
        }
        Err(broken)
    }

    /// The rest of the body; `None` where the core cannot be had just now. An error where it has another by now.
    async fn rest(&self, shell: &Shell, resumption: &Resumption, part: &mut Part) -> Result<Option<Pieces>, Broken> {
        let from = part.received();
        let request = resumption.request(&self.request, from).ok_or(Broken::Core(OriginError::Broken))?;
        let (rest, result) = match self.begin(shell, request).await {
            Ok(begun) => {
                let (status, headers) = (begun.heard.answer.status.as_u16(), &begun.heard.answer.headers);
                if resumption.is_continued_by(status, headers, from, part.announced()) {
                    if let Some(length) = Resumption::whole_length(headers) {
                        part.announce(length).map_err(Broken::Room)?;
                    }
                    (Ok(Some(begun.body)), "resumed")
                } else if matches!(status, 429 | 500..) {
                    (Ok(None), "failed")
                } else {
                    (Err(Broken::Core(OriginError::Broken)), "refused")
                }
            }
            Err(_) => (Ok(None), "failed"),
        };
        shell.metrics.package_resumes.with_label_values(&[self.route.name.as_str(), result]).inc();
        rest
    }
}

/// Whether what is missing can be asked for: the core broke off, and what has come is not too much.
fn can_be_mended(broken: &Broken, part: &Part) -> bool {
    match broken {
        Broken::Core(OriginError::Broken | OriginError::Timeout) => true,
        Broken::Length => part.announced().is_some_and(|announced| part.received() < announced),
        _ => false,
    }
}

/// A core that breaks off may be starting anew: longer after each request that brought nothing, and not at the same time for all nodes.
fn pause(barren: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << barren.min(5)).mul_f64(0.5 + rand::random::<f64>())
}

/// Requests for one body.
const MAX_REQUESTS: u32 = 32;
/// Requests in a row that bring nothing of it.
const MAX_BARREN: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
