//! Requests in flight to a core: how many, and how much room each class has.

use weir_config::Class;

/// How many requests may be in flight. Fixed by the operator; a limit that adapts to measured latency has the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    limit: usize,
}

impl ConcurrencyLimit {
    /// A limit that stays as it is, at least one.
    pub fn fixed(limit: usize) -> Self {
        Self { limit: limit.max(1) }
    }

    /// The limit for all classes together.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What may be in flight at most when a request of `class` joins: the room above it stays with the classes over it. At
    /// least one, so that a small limit starves nobody for good.
    pub fn room(&self, class: Class) -> usize {
        let percent = match class {
            Class::Probe | Class::Tasking => 100,
            Class::Checkin => 95,
            Class::Config => 90,
            Class::Update => 85,
            Class::Download => 80,
            Class::Telemetry => 75,
        };
        (self.limit.saturating_mul(percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_classes_leave_room_to_those_above() {
        let limit = ConcurrencyLimit::fixed(100);
        assert_eq!([Class::Tasking, Class::Update, Class::Telemetry].map(|class| limit.room(class)), [100, 85, 75]);
        assert_eq!(ConcurrencyLimit::fixed(0).room(Class::Telemetry), 1);
    }
}
