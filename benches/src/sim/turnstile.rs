//! A node's way to the core: the product's gate, and the line before it as the product keeps it.
//!
//! `weir_logic::gate` decides; what `upstream/turnstile.rs` of the product does with tasks and channels, this does with events.

use std::time::Duration;

use rand::Rng;
use weir_config::Core;
use weir_logic::Millis;
use weir_logic::gate::{Attempt, Call, Entry, FlowId, Gate, GateLimits, Line, Rank, Ticket};

use super::desk::{Desk, Event};
use super::node::What;
use super::origin::Ending;

/// The gate, who waits at it, and what has passed it and is not back yet.
#[derive(Debug)]
pub(super) struct Turnstile {
    node: u16,
    gate: Gate,
    /// Those who wait; names in `orders`.
    line: Line<u32>,
    max_wait: Duration,
    max_waiting: usize,
    patience_ms: u64,
    orders: Vec<Option<Order>>,
    free: Vec<u32>,
    /// When those who wait will be called.
    called_at: Option<Millis>,
}

/// One request to the core.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) what: What,
    pub(super) rank: usize,
    /// As much work as so many single requests.
    pub(super) cost: f64,
    state: State,
}

#[derive(Debug)]
enum State {
    New,
    Waiting { since: Millis },
    Sent { ticket: Ticket, at: Millis, life: u32 },
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The gate let it not pass, for this long where it said so.
    TurnedAway(Option<Duration>),
    /// The core failed.
    Failed,
}

/// A request that is over.
pub(super) type Over = (What, Result<(), Fault>);

/// The backlog's place among the ranks, which are seven classes and this one.
pub(super) const BACKLOG: usize = Rank::ALL.len() - 1;

/// What asks the core: routes, and the stream.
const FLOWS: [&str; 4] = ["updates", "config", "tasks", "process"];

impl Order {
    pub(super) fn new(what: What, rank: usize, cost: f64) -> Self {
        Self { what, rank, cost, state: State::New }
    }
}

impl Turnstile {
    pub(super) fn new(node: u16, core: &Core) -> Self {
        let let_through = u128::from(core.max_requests_per_second) * core.max_wait.as_millis() / 1_000;
        Self {
            node,
            gate: Gate::new(&GateLimits::from(core), FLOWS),
            line: Line::default(),
            max_wait: core.max_wait,
            max_waiting: usize::try_from(let_through).unwrap_or(usize::MAX).max(core.max_in_flight),
            patience_ms: u64::try_from(core.request_timeout.as_millis()).unwrap_or(u64::MAX),
            orders: Vec::new(),
            free: Vec::new(),
            called_at: None,
        }
    }

    /// Brings a request to the gate. What is over at once is added to `over`.
    pub(super) fn enter(&mut self, order: Order, desk: &mut Desk, over: &mut Vec<Over>) {
        let (rank, flow) = (Rank::ALL[order.rank], self.flow(&order.what));
        let ahead = self.line.ahead(rank);
        if ahead.all == 0 {
            match self.gate.try_enter(rank.class(), flow, desk.now) {
                Entry::Go(ticket) => {
                    let name = self.keep(order);
                    return self.send(name, ticket, desk);
                }
                Entry::Resting(rest) => return over.push((order.what, Err(Fault::TurnedAway(Some(rest))))),
                Entry::Wait(_) => {}
            }
        }
        let stands = self.line.standing(desk.now) > self.max_wait;
        let max_wait = if stands { self.max_wait / 4 } else { self.max_wait };
        if self.gate.time_through(rank.class(), ahead, desk.now) > max_wait {
            return over.push((order.what, Err(Fault::TurnedAway(None))));
        }
        match self.line.make_room(rank, flow, self.max_waiting) {
            Ok(last) => {
                let order = last.and_then(|last| self.take(last));
                over.extend(order.map(|order| (order.what, Err(Fault::TurnedAway(None)))));
            }
            Err(_) => return over.push((order.what, Err(Fault::TurnedAway(None)))),
        }
        let name = self.keep(Order { state: State::Waiting { since: desk.now }, ..order });
        self.line.push(rank, flow, name, desk.now);
        desk.calendar.put(desk.now.after(max_wait), Event::Patience { node: self.node, order: name, since: desk.now });
        self.call(desk, over);
    }

    /// Whether a request of that rank that has another answer to fall back on would be turned away.
    pub(super) fn is_crowded(&self, rank: usize, now: Millis) -> bool {
        let rank = Rank::ALL[rank];
        self.gate.time_through(rank.class(), self.line.ahead(rank), now) > self.max_wait / 8
    }

    /// One who waits since then has waited long enough, if it still does.
    pub(super) fn give_up(&mut self, name: u32, since: Millis, over: &mut Vec<Over>) {
        let Some(Some(Order { state: State::Waiting { since: came }, .. })) = self.orders.get(name as usize) else {
            return;
        };
        // Names are used again: only the one who came then is meant.
        if *came == since {
            self.line.retain(|waiting| *waiting != name);
            over.extend(self.take(name).map(|order| (order.what, Err(Fault::TurnedAway(None)))));
        }
    }

    /// The core's word on a request: what it was, and how it ended.
    pub(super) fn answered(&mut self, name: u32, ending: Ending, desk: &mut Desk, over: &mut Vec<Over>) {
        let Some(Order { what, state: State::Sent { ticket, at, life }, .. }) = self.take(name) else { return };
        let good = ending == Ending::Answered && life == desk.origin.life;
        let took = desk.now.since(at);
        let second = desk.series.at(desk.now.0);
        second.core_took_ms += u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        second.core_ended += 1;
        second.core_failed += u32::from(!good);
        let attempt = match ending {
            _ if good => Attempt::Succeeded(took),
            Ending::Overloaded => Attempt::Overloaded,
            Ending::TimedOut => Attempt::TimedOut,
            Ending::Answered | Ending::Unreachable => Attempt::Failed,
        };
        self.gate.on_result(ticket, attempt, desk.now, desk.rng.random());
        over.push((what, if good { Ok(()) } else { Err(Fault::Failed) }));
        self.call(desk, over);
    }

    /// Calls everyone whose turn it is, and comes back when the next one's is.
    pub(super) fn call(&mut self, desk: &mut Desk, over: &mut Vec<Over>) {
        loop {
            match self.line.call(&mut self.gate, |_| false, desk.now) {
                Call::Go(name, ticket) => self.send(name, ticket, desk),
                Call::Away(name, rest) => {
                    let order = self.take(name);
                    over.extend(order.map(|order| (order.what, Err(Fault::TurnedAway(Some(rest))))));
                }
                Call::At(time) => {
                    if self.called_at.is_none_or(|at| at <= desk.now || at > time) {
                        self.called_at = Some(time);
                        desk.calendar.put(time, Event::Call { node: self.node });
                    }
                    return;
                }
                Call::WhenFreed | Call::Nobody => return,
            }
        }
    }

    fn flow(&self, what: &What) -> FlowId {
        self.gate.flow(what.flow())
    }

    fn send(&mut self, name: u32, ticket: Ticket, desk: &mut Desk) {
        let Some(order) = self.orders.get_mut(name as usize).and_then(Option::as_mut) else { return };
        let (at, ending) = desk.ask_core(order.cost, self.patience_ms);
        order.state = State::Sent { ticket, at: desk.now, life: desk.origin.life };
        desk.calendar.put(at, Event::Core { node: self.node, order: name, ending });
    }

    fn keep(&mut self, order: Order) -> u32 {
        if let Some(name) = self.free.pop() {
            self.orders[name as usize] = Some(order);
            return name;
        }
        self.orders.push(Some(order));
        u32::try_from(self.orders.len() - 1).expect("what waits is bounded far below")
    }

    fn take(&mut self, name: u32) -> Option<Order> {
        let order = self.orders.get_mut(name as usize)?.take()?;
        self.free.push(name);
        Some(order)
    }
}
