//! The figures as people read them, and which of them must hold.

use super::Figures;
use super::alternation::Alternation;
use super::crowd::Crowd;
use super::figures::Spread;
use super::latency::{Hits, OtherHits};
use super::packages::Download;
use super::purges::Purge;
use super::weight::Weight;
use crate::text::{bytes, grouped};

/// What is promised whatever the machine: one request at the core, no error for what is stored, no untrue age, and a footprint that is
/// not under the truth. Times are printed against their goals and judged by people: the machine may have been busy.
pub(super) fn holds(figures: &Figures) -> bool {
    let once = figures.crowds.iter().flat_map(|crowd| &crowd.asked).all(|asked| *asked == 1);
    let weighed = figures.weights.iter().chain(&figures.full).all(|weight| weight.worst_ratio <= 1.0);
    let calm = figures.alternation.as_ref().is_none_or(|seen| seen.errors + seen.others + seen.untrue == 0);
    let download = figures.download.as_ref().is_none_or(keeps_its_promises);
    once && weighed && calm && download
}

/// One transfer, the right bytes, no more a second than the bound with the burst of a tenth of a second, and a good part of the package
/// never in memory.
fn keeps_its_promises(seen: &Download) -> bool {
    let grown = seen.resident[1].saturating_sub(seen.resident[0]);
    let paced = seen.given as f64 <= seen.bound * (seen.seconds + 0.1) * 1.01;
    seen.transfers == 1 && seen.wrong == 0 && paced && grown <= MAX_GROWTH.min(seen.package_bytes / 2)
}

/// What a node may take for all readers of packages: `limits.packages.max_read_bytes`, at its default, and some buffers of connections.
const MAX_GROWTH: u64 = 48 << 20;

pub(super) fn download(seen: &Download) -> String {
    format!(
        "a package of {} for {} agents: {} transfer(s) from the core, {} wrong; {} given in {:.1} s, {} a second of {} allowed; \
         resident {} -> {}\n",
        bytes(seen.package_bytes),
        grouped(u64::from(seen.agents)),
        seen.transfers,
        seen.wrong,
        bytes(seen.given),
        seen.seconds,
        bytes(whole(seen.rate)),
        bytes(whole(seen.bound)),
        bytes(seen.resident[0]),
        bytes(seen.resident[1]),
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a second")]
fn whole(number: f64) -> u64 {
    number as u64
}

pub(super) fn crowds(crowds: &[Crowd]) -> String {
    let mut text = String::from(
        "a crowd on a cold key: ms from the core's last byte to a caller's answer, medians of the rounds\n",
    );
    for crowd in crowds {
        let Spread { p50, p99, p999, max } = crowd.wake;
        text += &format!(
            "  {} callers{}, {} rounds, at the core {} requests each: p50 {:.2}  p99 {:.2}  p99.9 {:.2}  last {:.2}, \
             p99 of the worst round {:.2} (goal: p99 5); {:.2} us of processor a caller, \
             {:.2} of them on one thread\n    as many tasks that do nothing: p50 {:.2}  p99 {:.2}  \
             last {:.2}; {:.2} us, {:.2}\n",
            grouped(crowd.callers as u64),
            if crowd.first_dies { ", the first killed" } else { "" },
            crowd.rounds,
            crowd.asked.iter().max().copied().unwrap_or_default(),
            p50 / 1e3,
            p99 / 1e3,
            p999 / 1e3,
            max / 1e3,
            crowd.worst_p99 / 1e3,
            crowd.busy,
            crowd.share,
            crowd.bare.p50 / 1e3,
            crowd.bare.p99 / 1e3,
            crowd.bare.max / 1e3,
            crowd.bare_busy,
            crowd.bare_share,
        );
    }
    text
}

pub(super) fn purges(purges: &[Purge]) -> String {
    let mut text = String::from(
        "purges: ms until nothing purged is used again (goal: 10), s until the cache holds none of it, and the longest hit meanwhile\n",
    );
    for purge in purges {
        text += &format!(
            "  {:<7}{:>10} answers  {:>8.3} ms  {:>6.2} s  {:>8.2} ms  resident {} -> {}\n",
            purge.kind,
            grouped(purge.objects),
            purge.order_ms,
            purge.sweep_ms / 1e3,
            purge.hit_meanwhile_us / 1e3,
            bytes(purge.resident[0]),
            bytes(purge.resident[1]),
        );
    }
    text
}

pub(super) fn weights(weights: &[Weight], full: Option<&Weight>) -> String {
    let mut text = String::from(
        "memory of a stored answer: bytes by the kernel's count, at the worst moment, and as the cache counts it\n",
    );
    for weight in weights {
        let each = weight.worst.max(weight.counted_each());
        text += &format!(
            "  body {:>6} B: {:>6.0}  worst {:>6.0}  counted {:>6.0}, {} answers; in 4 GiB fit {:.2} million\n",
            weight.body,
            weight.each(),
            weight.worst,
            weight.counted_each(),
            grouped(weight.objects),
            (4_u64 << 30) as f64 / each / 1e6,
        );
    }
    if let Some(full) = full {
        text += &format!(
            "  full, body {} B: {} answers, counted {}, resident {}\n",
            full.body,
            grouped(full.objects),
            bytes(full.counted),
            bytes(full.grown),
        );
    }
    text
}

pub(super) fn hits(hits: &[Hits], others: &[OtherHits]) -> String {
    let mut text = String::from(
        "hits: ns, and the median over that of the smallest cache; bare is a hash table of \
         as many bodies, a read one dependent read in as many bytes\n",
    );
    for step in hits {
        let Some(first) = hits.first() else { continue };
        let column = |now: &Spread, then: &Spread| {
            format!("p50 {:>5.0} ({:.2})  p99 {:>6.0}", now.p50, now.p50 / then.p50.max(1.0), now.p99)
        };
        text += &format!(
            "  {:>10} keys, {:>8}: uniform {}  zipf {}  bare {}  a read {:>4.0}\n",
            grouped(u64::from(step.keys)),
            bytes(step.bytes),
            column(&step.uniform, &first.uniform),
            column(&step.zipf, &first.zipf),
            column(&step.bare, &first.bare),
            step.load_ns,
        );
    }
    for hit in others {
        text += &format!("  {:<30} p50 {:>5.0}  p99 {:>6.0}\n", hit.kind, hit.uniform.p50, hit.uniform.p99);
    }
    text
}

pub(super) fn alternation(seen: &Alternation) -> String {
    let mut text = format!(
        "a core that fails in turn, {} s: {} requests of agents, {} at the core in {} moods\n  fresh {}, stale {}, fetched {}; 5xx {}, \
         others {}, untrue Age or Cache-Status {}; the oldest {} s\n",
        seen.seconds,
        grouped(seen.requests),
        grouped(seen.core_requests),
        seen.moods,
        grouped(seen.fresh),
        grouped(seen.stale),
        grouped(seen.fetched),
        seen.errors,
        seen.others,
        seen.untrue,
        seen.oldest,
    );
    if let Some(example) = &seen.example {
        text += &format!("  for example: {example}\n");
    }
    text
}
