//! The room that each class has: the lowest class sheds first.

use weir_config::{Class, Limits, Ratio};

/// How many requests may be worked on at once, by class.
///
/// Each class may fill its part of the whole; what lies above the part of a class stays free for those over it. The
/// counting is the caller's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Admission {
    parts: [f64; 7],
    room: [usize; 7],
}

/// Whether a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is.
    Admit,
    /// It is not; the agent is told when to come back.
    Shed,
}

impl Admission {
    /// The room that these limits give. Every class has room for one request at least.
    pub fn new(limits: &Limits) -> Self {
        let parts = &limits.classes;
        let parts =
            [parts.probe, parts.tasking, parts.checkin, parts.config, parts.update, parts.download, parts.telemetry];
        let parts = parts.map(Ratio::value);
        Self { parts, room: parts.map(|part| share(limits.max_requests, part)) }
    }

    /// Whether one more request of that class is let in while `in_flight` are worked on.
    pub fn verdict(&self, class: Class, in_flight: usize) -> Verdict {
        if in_flight < self.room(class) { Verdict::Admit } else { Verdict::Shed }
    }

    /// Requests that may be worked on at once when one more of that class comes.
    pub fn room(&self, class: Class) -> usize {
        self.room[class as usize]
    }

    /// The part of the whole that is the class's.
    pub fn part(&self, class: Class) -> f64 {
        self.parts[class as usize]
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count"
)]
fn share(whole: usize, part: f64) -> usize {
    ((whole as f64 * part) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{EXAMPLE, MemoryEnvironment, parse};

    use super::*;

    const FALLING: [Class; 7] =
        [Class::Probe, Class::Tasking, Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry];

    fn limits(max_requests: usize) -> Limits {
        let environment = MemoryEnvironment::new().file("weir.toml", EXAMPLE);
        let mut limits = parse(&environment, Path::new("weir.toml")).unwrap().config.limits;
        let part = |value| Ratio::new(value).unwrap();
        limits.max_requests = max_requests;
        limits.classes = weir_config::ClassLimits {
            probe: part(1.0),
            tasking: part(0.95),
            checkin: part(0.9),
            config: part(0.8),
            update: part(0.7),
            download: part(0.6),
            telemetry: part(0.5),
            shadow: false,
        };
        limits
    }

    #[test]
    fn the_lowest_class_sheds_first() {
        let admission = Admission::new(&limits(100));
        let shed_at = |class| (0..=100).find(|load| admission.verdict(class, *load) == Verdict::Shed);
        let points: Vec<_> = FALLING.iter().map(|class| shed_at(*class)).collect();
        assert_eq!(points, [100, 95, 90, 80, 70, 60, 50].map(Some));
    }

    #[test]
    fn an_idle_node_lets_every_class_in() {
        let admission = Admission::new(&limits(1));
        assert!(FALLING.iter().all(|class| admission.verdict(*class, 0) == Verdict::Admit));
    }
}
