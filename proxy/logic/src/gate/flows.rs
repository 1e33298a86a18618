//! What asks of a core: its routes and streams, told apart.

use std::collections::HashMap;
use std::sync::Arc;

use super::FlowId;

/// The flows to one core by name. What has no name of its own counts as one flow. Memory: a name, and some hundred bytes, for each
/// route and stream of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Flows {
    list: Vec<Flow>,
    ids: HashMap<Arc<str>, FlowId>,
}

/// One flow.
#[derive(Clone, Debug, Default)]
struct Flow {
    in_flight: usize,
}

impl Flows {
    /// The flows with these names.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut flows = Self { list: vec![Flow::default()], ids: HashMap::new() };
        flows.rename(names);
        flows
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_keeps_its_place_when_others_come_and_go() {
        let mut flows = Flows::new(["a", "b"]);
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
