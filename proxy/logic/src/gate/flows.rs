//! What asks of a core: its routes and streams, told apart.

use std::collections::HashMap;
use std::sync::Arc;

use weir_config::Ratio;

use super::FlowId;
use crate::Millis;

/// The flows to one core by name, and how much of the core's room each may take. What has no name of its own counts as one flow.
/// Memory: a name, and some hundred bytes, for each route and stream of the configuration.
///
/// No flow has more than its share, so that one whose requests are swallowed leaves room to the others; the only flow of a core
/// has all of it. A flow that times out while others are answered is at fault by itself: its share is halved, and grows back as
/// it is answered.
#[derive(Clone, Debug)]
pub(super) struct Flows {
    list: Vec<Flow>,
    ids: HashMap<Arc<str>, FlowId>,
    share: f64,
}

/// One flow.
#[derive(Clone, Debug)]
struct Flow {
    in_flight: usize,
    /// The part of its share that it has, from [`LEAST`] to 1.
    part: f64,
    /// When that was halved.
    halved: Millis,
    /// When it was answered last.
    answered: Option<Millis>,
}

/// However often a flow's share is halved, this part of it is left; and always room for one.
const LEAST: f64 = 0.01;

impl Default for Flow {
    fn default() -> Self {
        Self { in_flight: 0, part: 1.0, halved: Millis(0), answered: None }
    }
}

impl Flows {
    /// The flows with these names.
    pub(super) fn new<'a>(share: Ratio, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut flows = Self { list: vec![Flow::default()], ids: HashMap::new(), share: share.value() };
        flows.rename(names);
        flows
    }

    /// Changes the share.
    pub(super) fn share(&mut self, share: Ratio) {
        self.share = share.value();
    }

    /// Whether a flow has all that it may have of `limit`.
    pub(super) fn is_full(&self, flow: FlowId, limit: usize) -> bool {
        self.list[flow.0].in_flight >= self.room(flow, limit)
    }

    /// Whether a flow's share was taken from it.
    pub(super) fn is_at_fault(&self, flow: FlowId) -> bool {
        self.list[flow.0].part < 1.0
    }

    /// A flow was answered.
    pub(super) fn on_answer(&mut self, flow: FlowId, limit: usize, now: Millis) {
        let room = (float(limit) * self.share).max(1.0);
        let flow = &mut self.list[flow.0];
        flow.part = (flow.part + 1.0 / room).min(1.0);
        flow.answered = Some(now);
    }

    /// A request of `flow` that left at `started` was not answered in time. `true` when that is the flow's own fault, as others
    /// have been answered since.
    pub(super) fn on_timeout(&mut self, flow: FlowId, started: Millis, now: Millis) -> bool {
        let answered = |other: &Flow| other.answered.is_some_and(|answered| answered > started);
        let own = !answered(&self.list[flow.0])
            && self.list.iter().enumerate().any(|(at, other)| at != flow.0 && answered(other));
        let flow = &mut self.list[flow.0];
        if own && started >= flow.halved {
            flow.part = (flow.part / 2.0).max(LEAST);
            flow.halved = now;
        }
        own
    }

    fn room(&self, flow: FlowId, limit: usize) -> usize {
        if self.ids.len() <= 1 {
            return limit;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the limit")]
        let room = (float(limit) * self.share * self.list[flow.0].part).round() as usize;
        room.max(1)
    }

    /// Takes over other names. A flow that stays keeps its place; the place of one that is gone is given away once nothing of it
    /// is in flight.
    pub(super) fn rename<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let old = std::mem::take(&mut self.ids);
        let (kept, new): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| old.contains_key(*name));
        self.ids =
            kept.iter().filter_map(|name| old.get_key_value(*name)).map(|(name, id)| (Arc::clone(name), *id)).collect();
        for name in new {
            let id = self.free_place();
            self.ids.insert(Arc::from(name), id);
        }
    }

    /// The flow of this name.
    pub(super) fn id(&self, name: &str) -> FlowId {
        self.ids.get(name).copied().unwrap_or_default()
    }

    /// One more request of the flow is in flight.
    pub(super) fn on_entry(&mut self, flow: FlowId) {
        self.list[flow.0].in_flight += 1;
    }

    /// One less.
    pub(super) fn on_exit(&mut self, flow: FlowId) {
        let flow = &mut self.list[flow.0];
        flow.in_flight = flow.in_flight.saturating_sub(1);
    }

    fn free_place(&mut self) -> FlowId {
        let is_free = |at: &usize| self.list[*at].in_flight == 0 && !self.ids.values().any(|id| id.0 == *at);
        let at = (1..self.list.len()).find(is_free).unwrap_or(self.list.len());
        if at == self.list.len() {
            self.list.push(Flow::default());
        } else {
            self.list[at] = Flow::default();
        }
        FlowId(at)
    }
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half() -> Ratio {
        Ratio::new(0.5).unwrap()
    }

    fn fill(flows: &mut Flows, name: &str, limit: usize) -> usize {
        let flow = flows.id(name);
        let mut entered = 0;
        while !flows.is_full(flow, limit) {
            flows.on_entry(flow);
            entered += 1;
        }
        entered
    }

    #[test]
    fn a_flow_that_is_not_answered_leaves_room_to_the_others() {
        let mut flows = Flows::new(half(), ["a", "b"]);
        assert_eq!(fill(&mut flows, "a", 20), 10);
        assert_eq!(fill(&mut flows, "b", 20), 10);
        let mut alone = Flows::new(half(), ["a"]);
        assert_eq!(fill(&mut alone, "a", 20), 20, "there is nobody to leave room to");
    }

    #[test]
    fn timeouts_of_one_flow_halve_its_share_and_answers_give_it_back() {
        let mut flows = Flows::new(half(), ["a", "b"]);
        let (a, b) = (flows.id("a"), flows.id("b"));
        assert!(!flows.on_timeout(a, Millis(0), Millis(10)), "nobody is answered: it is the core");
        flows.on_answer(b, 40, Millis(15));
        assert!(flows.on_timeout(a, Millis(1), Millis(20)));
        assert!(flows.on_timeout(a, Millis(2), Millis(21)), "but that is known already");
        assert_eq!(fill(&mut flows, "a", 40), 10);
        (0..3).for_each(|_| flows.on_answer(a, 40, Millis(30)));
        assert_eq!(fill(&mut flows, "a", 40), 3);
        assert!(!flows.on_timeout(a, Millis(25), Millis(40)), "others of it are answered");
        (0..99).for_each(|_| flows.on_answer(a, 40, Millis(30)));
        assert!(!flows.is_at_fault(a));
    }

    #[test]
    fn a_flow_keeps_its_place_when_others_come_and_go() {
        let mut flows = Flows::new(half(), ["a", "b"]);
        let (a, b) = (flows.id("a"), flows.id("b"));
        assert_eq!(flows.id("c"), FlowId(0));
        flows.on_entry(a);
        flows.rename(["b", "c", "d"]);
        assert_eq!(flows.id("b"), b);
        assert!([flows.id("c"), flows.id("d")].iter().all(|&id| id != a && id != b && id != FlowId(0)));
        flows.on_exit(a);
        flows.rename(["b", "c", "d", "e"]);
        assert_eq!((flows.id("e"), flows.list.len()), (a, 5), "places are used again");
    }
}
