//! The memory that a stored answer takes by the kernel's count, against what the cache counts it as.

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use super::Failure;
use super::figures::resident_bytes;
use super::scene::{Asker, Scene};

/// What to weigh. Each weighing has a process of its own: what an allocator keeps after another would be in the figures.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct WeighArguments {
    /// Bytes of each body
    #[arg(long)]
    pub(super) body: usize,
    /// Answers to store, at most
    #[arg(long)]
    pub(super) objects: u32,
    /// Bytes that the cache may hold; storing ends when it has to let something go
    #[arg(long)]
    pub(super) max_bytes: u64,
}

/// What a number of answers of one size weigh.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Weight {
    pub(super) body: usize,
    /// Answers stored.
    pub(super) objects: u64,
    /// Bytes that the process has grown by.
    pub(super) grown: u64,
    /// Bytes that the cache counts.
    pub(super) counted: u64,
    /// The most that an answer took, looking at least ten times on the way: tables double at their own times.
    pub(super) worst: f64,
    /// The greatest ratio of growth to count at these times.
    pub(super) worst_ratio: f64,
    /// Whether it ended because the cache was full.
    pub(super) full: bool,
}

impl Weight {
    /// Bytes that an answer took at the end.
    pub(super) fn each(&self) -> f64 {
        self.grown as f64 / self.objects.max(1) as f64
    }

    /// Bytes that an answer counts as.
    pub(super) fn counted_each(&self) -> f64 {
        self.counted as f64 / self.objects.max(1) as f64
    }
}

/// Stores and weighs, in this process.
pub(super) fn weigh(arguments: WeighArguments) -> Result<Weight, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let scene = Scene::new(arguments.max_bytes, arguments.body)?;
    // One configuration for each tenant, as the fleet has it.
    let mut asker = Asker::new(u32::MAX);
    runtime.block_on(scene.fill(&mut asker, 0..WARM))?;
    let (empty, before) = (scene.stored(), resident_bytes()?);
    let step = (arguments.objects / STEPS).clamp(1, MAX_STEP);
    let (mut stored, mut worst, mut worst_ratio) = (WARM, 0.0_f64, 0.0_f64);
    let (mut grown, mut full) = (0, false);
    while stored < arguments.objects + WARM && !full {
        runtime.block_on(scene.fill(&mut asker, stored..stored + step))?;
        stored += step;
        grown = resident_bytes()?.saturating_sub(before);
        let now = scene.stored();
        full = scene.metrics.cache_evictions.get() > 0;
        worst = worst.max(grown as f64 / (now.0 - empty.0) as f64);
        worst_ratio = worst_ratio.max(grown as f64 / (now.1 - empty.1) as f64);
    }
    let now = scene.stored();
    let (objects, counted) = (now.0 - empty.0, now.1 - empty.1);
    Ok(Weight { body: arguments.body, objects, grown, counted, worst, worst_ratio, full })
}

/// Answers that are stored before anything is weighed: a process's first work leaves memory behind that is no answer's.
const WARM: u32 = 1_000;

const STEPS: u32 = 10;

/// How far past its bound a cache is filled at most.
const MAX_STEP: u32 = 100_000;
