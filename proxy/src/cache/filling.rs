//! A fill whose body goes to the disk: its readers begin when its head is there, and it goes on to its end whoever reads.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use http::header::ETAG;
use weir_config::CacheRoute;
use weir_logic::Refusal;
use weir_logic::cache::{CachePolicy, Meaning, Unstorable};

use super::Shell;
use super::entry::Entry;
use super::fill::{Heard, Landing, MAX_PASSED_ON_BYTES, Order};
use super::flight::Ticket;
use super::packages::{Broken, NoRoom, Part, Told};
use crate::purging::Departure;
use crate::upstream::{OriginAnswer, OriginError, OriginStream, announced_length};

/// What the core has begun to say, and when it was asked.
pub(super) struct Begun {
    /// The answer without its body.
    pub(super) heard: Heard,
    pub(super) body: BoxStream<'static, Result<Bytes, OriginError>>,
}

impl Order {
    /// As [`Order::fetch`], but that a body of 200 goes to the disk.
    pub(super) async fn fetch_to_disk(
        &self,
        shell: &Shell,
        route: &CacheRoute,
        departure: &Departure,
        ticket: &Ticket,
    ) -> Landing {
        let policy = CachePolicy::of(route);
        let candidates = self.candidates(shell);
        if let Some(request) = candidates.request(&self.request) {
            let begun = match self.begin(shell, request).await {
                Ok(begun) => begun,
                Err(error) => return self.unanswered(shell, error),
            };
            let answer = &begun.heard.answer;
            if policy.meaning(answer.status.as_u16(), &answer.headers, true) != Meaning::Confirmed {
                return self.received(shell, route, departure, ticket, begun).await;
            }
            if let Some(held) = candidates.confirmed(answer.headers.get(ETAG)) {
                let landing = self.confirmed(shell, policy, departure, held, &begun.heard);
                if let (Landing::Confirmed(entry), Some(package)) = (&landing, held.package()) {
                    shell.packages.rewrite(package, &self.told(entry)).await;
                }
                return landing;
            }
        }
        match self.begin(shell, self.request.clone()).await {
            Ok(begun) => self.received(shell, route, departure, ticket, begun).await,
            Err(error) => self.unanswered(shell, error),
        }
    }

    pub(super) async fn begin(
        &self,
        shell: &Shell,
        request: weir_logic::cache::FillRequest,
    ) -> Result<Begun, OriginError> {
        let asked = shell.clock.now();
        // A body is bounded where it is kept.
        let OriginStream { status, headers, body } = shell.origin.open(self.to_core(request, usize::MAX)).await?;
        let answer = OriginAnswer { status, headers, body: Bytes::new() };
        Ok(Begun { heard: Heard { answer, asked, claims: None }, body })
    }

    async fn received(
        &self,
        shell: &Shell,
        route: &CacheRoute,
        departure: &Departure,
        ticket: &Ticket,
        begun: Begun,
    ) -> Landing {
        let policy = CachePolicy::of(route);
        let Begun { mut heard, body } = begun;
        let status = heard.answer.status.as_u16();
        let meaning = policy.meaning(status, &heard.answer.headers, false);
        let unstorable = match meaning {
            Meaning::Store if status == 200 => (!self.storing).then_some(Unstorable::AgentSaysSo),
            Meaning::PassOn(why) if status == 200 => Some(why),
            // What is no package is small.
            _ => {
                return match gathered(body).await {
                    Ok(body) => {
                        heard.answer.body = body;
                        self.understood(shell, policy, departure, &heard)
                    }
                    Err(error) => self.unanswered(shell, error),
                };
            }
        };
        let announced = announced_length(&heard.answer.headers);
        let part = match shell.packages.begin(&self.key, announced).await {
            Ok(part) => part,
            Err(broken) => return self.broken(shell, &broken),
        };
        part.package().limit(route.max_bytes_per_second.bytes());
        let entry = Arc::new(self.arrived(shell, departure, &heard, &part));
        let landing = match unstorable {
            None => Landing::Stored(Arc::clone(&entry)),
            Some(why) => Landing::PassedOn(Arc::clone(&entry), why),
        };
        // What a manifest says of a payload can be compared with all of it only.
        if self.expected(shell).is_none() {
            ticket.announce(landing.clone());
        }
        match self.filled(shell, part, body, landing, &heard.answer.headers).await {
            Ok(landing) => landing,
            Err(broken) => self.broken(shell, &broken),
        }
    }

    /// The answer as agents are given it from now on.
    fn arrived(&self, shell: &Shell, departure: &Departure, heard: &Heard, part: &Part) -> Entry {
        let headers = &heard.answer.headers;
        let stamp = departure.stamp(Arc::new(self.marks(headers)));
        Entry::on_disk(heard.arrival(200, headers, shell.clock.now()), headers, Arc::clone(part.package()), stamp)
    }

    /// Writes the body to its end, and keeps it if it may be kept and was not purged on its way.
    async fn filled(
        &self,
        shell: &Shell,
        mut part: Part,
        body: BoxStream<'static, Result<Bytes, OriginError>>,
        landing: Landing,
        headers: &HeaderMap,
    ) -> Result<Landing, Broken> {
        self.brought(shell, headers, &mut part, body).await?;
        // What could not be said of it before is known now.
        let landing = match landing {
            Landing::Stored(entry) => Landing::Stored(entry.settled(headers)),
            other => other,
        };
        if landing.entry().is_some_and(|entry| self.is_another(shell, entry)) {
            return Err(Broken::Another);
        }
        shell.holds.clear(&self.lane);
        match &landing {
            Landing::Stored(entry) if shell.purging.allows(&self.key, entry.stamp()) => {
                part.keep(&self.told(entry)).await?;
                // What is kept apart goes with the last who wants it, files and all.
                let apart = self.expecting.is_some_and(|expecting| expecting.apart);
                if !apart && shell.keep(&self.key, entry, 1) && self.is_another(shell, entry) {
                    // A manifest has come into use since the last look.
                    shell.packages.store.remove_if(&self.key, |held| Arc::ptr_eq(held, entry));
                    return Err(Broken::Another);
                }
            }
            // What an agent does not want stored leaves what is stored alone.
            Landing::Stored(_) | Landing::PassedOn(_, Unstorable::AgentSaysSo) => part.give_up_to_readers(),
            _ => {
                part.give_up_to_readers();
                shell.outdate(&self.key, &self.selection);
            }
        }
        Ok(landing)
    }

    fn told<'a>(&'a self, entry: &'a Entry) -> Told<'a> {
        Told {
            route: &self.route.name,
            key: &self.key,
            arrival: entry.arrival(),
            headers: entry.headers_of_core().collect(),
            marks: entry.stamp().marks(),
        }
    }

    fn broken(&self, shell: &Shell, broken: &Broken) -> Landing {
        tracing::debug!(route = self.route.name, ?broken, "a body did not come to its end");
        match broken {
            Broken::Core(error) => self.unanswered(shell, *error),
            Broken::Length | Broken::Another | Broken::Room(NoRoom::TooLarge) => {
                self.failed(shell, Refusal::CoreBroken, Some(200), None)
            }
            Broken::Room(NoRoom::Full) => self.failed(shell, Refusal::Overloaded, Some(200), None),
            Broken::Disk(error) => {
                // At most one for each key in a second: the key rests.
                tracing::warn!(route = self.route.name, %error, "an answer cannot be written to disk");
                self.failed(shell, Refusal::Overloaded, Some(200), None)
            }
        }
    }
}

/// The whole of a body that is no package.
async fn gathered(mut body: BoxStream<'static, Result<Bytes, OriginError>>) -> Result<Bytes, OriginError> {
    let mut whole = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > MAX_PASSED_ON_BYTES {
            return Err(OriginError::TooLarge(MAX_PASSED_ON_BYTES));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into_boxed_slice().into())
}
