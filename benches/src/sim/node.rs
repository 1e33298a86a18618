//! One node: the product's policies, and between them what the product's shells do.

use std::time::Duration;

use weir_config::Class;
use weir_logic::{Millis, Verdict};

use super::agents::{Activity, Kind};
use super::cached::Cached;
use super::desk::{Desk, Event, Looked};
use super::lookups::{Entries, Lookups};
use super::origin::Ending;
use super::patience::class_of;
use super::plan::Plan;
use super::turnstile::{BACKLOG, Order, Over, Turnstile};
use super::uploads::{Parcel, Uploads};

/// A node and all that it knows.
#[derive(Debug)]
pub(super) struct Node {
    turnstile: Turnstile,
    updates: Cached,
    config: Lookups,
    tasks: Lookups,
    uploads: Uploads,
    /// Requests to the core that are over and not dealt with yet.
    over: Vec<Over>,
}

/// What a node asks the core for.
#[derive(Debug)]
pub(super) enum What {
    /// The update answer of that number.
    Fill(usize),
    /// Many keys at once.
    Bulk(Looked, Entries),
    /// To take a batch.
    Batch(Parcel),
}

impl What {
    /// The route or the stream on whose behalf it is asked.
    pub(super) fn flow(&self) -> &'static str {
        match self {
            Self::Fill(_) => "updates",
            Self::Bulk(Looked::Config, _) => "config",
            Self::Bulk(Looked::Tasks, _) => "tasks",
            Self::Batch(_) => "process",
        }
    }
}

/// Distinct update checks, of the standard mix.
pub(super) const UPDATE_KEYS: usize = 50;

/// A key of a bulk request, and a row of a batch, are as much work for the core as this part of a single request.
const KEY_COST: f64 = 0.02;
const ROW_COST: f64 = 0.001;

/// The product looks for kept answers that are due once a second.
const TICK_MS: u64 = 1_000;

impl Node {
    pub(super) fn new(number: u16, plan: &Plan, tenants: u32, desk: &mut Desk) -> Self {
        desk.calendar.put(Millis(desk.now.0 + TICK_MS), Event::Refresh { node: number });
        let lookups = |route| Lookups::new(number, route, plan.lookup(route), tenants);
        Self {
            turnstile: Turnstile::new(number, &plan.config.cores[0]),
            updates: Cached::new(UPDATE_KEYS),
            config: lookups(Looked::Config),
            tasks: lookups(Looked::Tasks),
            uploads: Uploads::new(number, plan.stream()),
            over: Vec::new(),
        }
    }

    /// An agent asks.
    pub(super) fn ask(&mut self, plan: &Plan, activity: Activity, tenant: u32, update_key: usize, desk: &mut Desk) {
        let kind = activity.kind();
        let class = class_of(kind);
        let waiting = self.updates.waiting() + self.config.waiting() + self.tasks.waiting();
        if plan.admission.verdict(class, waiting) == Verdict::Shed {
            return desk.turn_away(activity, Duration::ZERO);
        }
        if let Some(patience) = &mut desk.patience {
            patience.let_in(kind);
        }
        match kind {
            Kind::Update => {
                let seats = plan.config.limits.cache.max_waiters;
                if self.updates.ask(plan.update(), update_key, activity, seats, desk) {
                    self.enter(Order::new(What::Fill(update_key), Class::Update as usize, 1.0), desk);
                }
            }
            Kind::Config => self.look_up(plan, Looked::Config, tenant, tenant, activity, desk),
            Kind::Tasks => self.look_up(plan, Looked::Tasks, activity.agent(), tenant, activity, desk),
            Kind::Upload => self.uploads.take(plan.stream(), activity, desk),
        }
        self.settle(plan, desk);
    }

    /// Something that this node waited for has happened.
    pub(super) fn on_event(&mut self, plan: &Plan, event: Event, desk: &mut Desk) {
        match event {
            Event::Core { order, ending, .. } => self.answered(order, ending, desk),
            Event::Call { .. } => self.turnstile.call(desk, &mut self.over),
            Event::Patience { order, since, .. } => self.turnstile.give_up(order, since, &mut self.over),
            Event::Window { route, number, .. } => {
                let lookup = plan.lookup(route);
                if let Some(entries) = self.lookups(route).close(lookup, number) {
                    self.send_bulk(plan, route, entries, desk);
                }
            }
            Event::Refresh { node } => {
                desk.calendar.put(Millis(desk.now.0 + TICK_MS), Event::Refresh { node });
                let key = |tenant| plan.key(Looked::Config, tenant, tenant);
                for entries in self.config.refresh_due(plan.lookup(Looked::Config), key, desk) {
                    self.send_bulk(plan, Looked::Config, entries, desk);
                }
            }
            Event::Seal { .. } => {
                let parcels = self.uploads.seal(plan.stream(), desk);
                self.send_batches(parcels, desk);
            }
            Event::Send { .. } => {
                let parcels = self.uploads.departures(desk);
                self.send_batches(parcels, desk);
            }
            Event::Turn(_) | Event::Direct { .. } | Event::Outage { .. } | Event::Slow { .. } => {}
        }
        self.settle(plan, desk);
    }

    fn answered(&mut self, order: u32, ending: Ending, desk: &mut Desk) {
        self.turnstile.answered(order, ending, desk, &mut self.over);
    }

    fn look_up(&mut self, plan: &Plan, route: Looked, subject: u32, tenant: u32, activity: Activity, desk: &mut Desk) {
        let Some(key) = plan.key(route, subject, tenant) else { return };
        let is_crowded = self.turnstile.is_crowded(plan.rank(route), desk.now);
        if let Some(entries) = self.lookups(route).ask(plan.lookup(route), (subject, key), activity, is_crowded, desk) {
            self.send_bulk(plan, route, entries, desk);
        }
    }

    /// Deals with everything that is over, and with what that leads to.
    fn settle(&mut self, plan: &Plan, desk: &mut Desk) {
        while let Some((what, result)) = self.over.pop() {
            match what {
                What::Fill(key) => self.updates.landed(plan.update(), key, result, desk),
                What::Bulk(route, entries) => self.lookups(route).landed(plan.lookup(route), entries, result, desk),
                What::Batch(parcel) => {
                    let parcels = self.uploads.attempted(&parcel, result, desk);
                    self.send_batches(parcels, desk);
                }
            }
        }
    }

    fn send_bulk(&mut self, plan: &Plan, route: Looked, entries: Entries, desk: &mut Desk) {
        let cost = 1.0 + KEY_COST * entries.len() as f64;
        self.enter(Order::new(What::Bulk(route, entries), plan.rank(route), cost), desk);
    }

    fn send_batches(&mut self, parcels: Vec<Parcel>, desk: &mut Desk) {
        for parcel in parcels {
            let rank = if parcel.is_backlog { BACKLOG } else { Class::Telemetry as usize };
            let cost = 1.0 + ROW_COST * parcel.rows;
            self.enter(Order::new(What::Batch(parcel), rank, cost), desk);
        }
    }

    fn enter(&mut self, order: Order, desk: &mut Desk) {
        self.turnstile.enter(order, desk, &mut self.over);
    }

    fn lookups(&mut self, route: Looked) -> &mut Lookups {
        match route {
            Looked::Config => &mut self.config,
            Looked::Tasks => &mut self.tasks,
        }
    }
}
