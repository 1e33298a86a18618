//! The room that each class has: the lowest class sheds first.

use weir_config::{Class, Limits};

/// How many requests may be worked on at once, by class.
///
/// Each class may fill its part of the whole; what lies above the part of a class stays free for those over it. The
/// counting is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
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
        let room =
            [parts.probe, parts.tasking, parts.checkin, parts.config, parts.update, parts.download, parts.telemetry];
        Self { room: room.map(|part| share(limits.max_requests, part.value())) }
    }

    /// Whether one more request of that class is let in while `in_flight` are worked on.
    pub fn verdict(&self, class: Class, in_flight: usize) -> Verdict {
        if in_flight < self.room[class as usize] { Verdict::Admit } else { Verdict::Shed }
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
    use std::time::Duration;

    use weir_config::{ByteSize, CacheLimits, ClassLimits, PackageLimits, Ratio, RolloutLimits};

    use super::*;

    const FALLING: [Class; 7] =
        [Class::Probe, Class::Tasking, Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry];

    fn limits(max_requests: usize) -> Limits {
        let part = |value| Ratio::new(value).unwrap();
        Limits {
            max_header_bytes: ByteSize::kib(16),
            max_target_bytes: ByteSize::kib(8),
            max_body_bytes: ByteSize::mib(1),
            max_inflated_bytes: ByteSize::mib(8),
            max_inflation_ratio: 100,
            max_upload_records: 1000,
            max_record_bytes: ByteSize::kib(64),
            max_string_bytes: ByteSize::kib(64),
            max_json_depth: 32,
            max_buffered_bytes: ByteSize::mib(64),
            tenant_share: part(0.5),
            max_requests,
            classes: ClassLimits {
                probe: part(1.0),
                tasking: part(0.95),
                checkin: part(0.9),
                config: part(0.8),
                update: part(0.7),
                download: part(0.6),
                telemetry: part(0.5),
            },
            cache: CacheLimits {
                max_bytes: ByteSize::mib(1),
                max_object_bytes: ByteSize::kib(1),
                max_waiters: 1,
                max_keys: 1,
                what_if_keys: 0,
            },
            rollouts: RolloutLimits { max_keys: 1, max_bytes: ByteSize::mib(1) },
            packages: PackageLimits {
                max_bytes: ByteSize::mib(1),
                max_object_bytes: ByteSize::kib(1),
                max_objects: 1,
                max_read_bytes: ByteSize::kib(64),
                max_fill_time: Duration::from_secs(60),
            },
        }
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
