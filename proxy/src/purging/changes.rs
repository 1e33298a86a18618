//! What agents' changes do to stored answers.

use std::sync::Arc;

use http::HeaderMap;
use weir_config::{Action, Method};
use weir_logic::TenantId;
use weir_logic::cache::invalidation::Change;
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::route::Found;

use super::orders::Shared;
use crate::clock::Clock;
use crate::snapshot::SharedSnapshot;
use crate::trace::Recorder;

/// Takes answers out of use that a request passed through the node has put out of date. Shared answers of a path go, and those of the
/// tenant that made the change; other tenants' stay, as no tenant can change another's.
pub struct Changes {
    shared: Arc<Shared>,
    snapshot: SharedSnapshot,
    recorder: Option<Arc<Recorder>>,
    clock: Clock,
}

impl Changes {
    pub(super) fn new(
        shared: Arc<Shared>,
        snapshot: SharedSnapshot,
        recorder: Option<Arc<Recorder>>,
        clock: Clock,
    ) -> Self {
        Self { shared, snapshot, recorder, clock }
    }

    /// The core has answered. Costs nothing for safe methods, errors, and paths that no route keeps answers of.
    pub fn answered(&self, change: &Change<'_>, tenant: Option<&TenantId>, status: u16, headers: &HeaderMap) {
        let paths = change.paths(status, headers);
        if !paths.is_empty()
            && let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.is_on())
        {
            // Of other paths as well: another configuration may keep their answers.
            recorder.changed(change, &paths, tenant, &self.snapshot.load());
        }
        for path in &paths {
            if self.has_answers(change.host(), path) {
                self.invalidate(Mark::place(path, None));
                if let Some(tenant) = tenant {
                    self.invalidate(Mark::place(path, Some(tenant.as_str())));
                }
            }
        }
    }

    fn has_answers(&self, host: &str, path: &str) -> bool {
        let snapshot = self.snapshot.load();
        [Method::Get, Method::Post].into_iter().any(|method| match snapshot.table.find(method, host, path) {
            Found::Route { route, .. } => matches!(route.action, Action::Cache(_) | Action::Lookup(_)),
            Found::WrongMethod { .. } | Found::Unknown => false,
        })
    }

    fn invalidate(&self, place: Mark) {
        let (shared, now) = (&self.shared, self.clock.now());
        shared.metrics.cache_purges.with_label_values(&["change"]).inc();
        if shared.purging.purge(Target::Marked(place), Severity::Hard, now).is_none() {
            // No room for the note until the sweep is through: what is out of date must not be used, so everything is asked anew.
            tracing::warn!("too many changes since the last sweep of the cache; all stored answers are stale");
            shared.purging.purge(Target::All, Severity::Soft, now);
            if let Some(recorder) = &self.recorder {
                recorder.purged("all", None, None, true, &[]);
            }
        }
        if shared.purging.notes() >= SWEEP_AT {
            Shared::sweep_soon(shared);
        }
    }
}

/// Notes of changes that are left to lie before a sweep, which looks at every stored answer, makes room.
const SWEEP_AT: usize = 4_096;
