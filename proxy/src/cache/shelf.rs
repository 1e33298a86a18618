//! The answers kept under one key: one, or several between which the core chooses by request headers (`Vary`).
//!
//! Not here: what an answer is chosen by (`weir_logic::cache::Selection`), and what all of them together weigh (`store`).

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_logic::CacheKey;
use weir_logic::cache::Selection;
use weir_logic::heap::allocation;

use super::entry::Entry;

/// What is kept under one key. Memory: two words; for several, four words each besides.
pub(super) enum Shelf {
    /// An answer for everyone with the key.
    One(Resident),
    /// Answers that were chosen by the same headers.
    Several(Box<Variants>),
}

/// A kept answer and its place in the order of leaving.
#[derive(Clone)]
pub(super) struct Resident {
    pub(super) entry: Arc<Entry>,
    pub(super) slot: usize,
}

/// Answers of one key. Never empty.
pub(super) struct Variants {
    list: Vec<Variant>,
    /// Times that any of them was asked for.
    uses: AtomicU64,
}

struct Variant {
    resident: Resident,
    /// The number of the last use.
    last_use: AtomicU64,
}

/// What a key has for a request.
pub(super) enum Found {
    Nothing,
    /// The answer to another request, chosen by headers in which they differ.
    Another(Arc<Entry>),
    This(Arc<Entry>),
}

/// Who left a shelf for a newer answer.
#[derive(Default)]
pub(super) struct Displaced {
    /// Those that the newer one puts out of date: the one in its place, or all that were chosen by other headers.
    pub(super) outdated: Vec<Resident>,
    /// Those that were not asked for longest, where there were too many.
    pub(super) crowded_out: Vec<Resident>,
}

impl Found {
    /// The answer to this request.
    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::This(entry) => Some(entry),
            Self::Another(_) | Self::Nothing => None,
        }
    }

    /// The key of the fill that a request shares with all for whom it makes no difference, as far as is known: what is stored says which
    /// headers matter, and without it each may.
    pub(super) fn lane<'k>(&self, key: &'k CacheKey, asked: &Selection) -> Cow<'k, CacheKey> {
        let of = |selection: &Selection| match selection.is_empty() {
            true => Cow::Borrowed(key),
            false => Cow::Owned(selection.key(key)),
        };
        match self {
            Self::This(entry) => of(entry.selection()),
            Self::Another(entry) => of(asked.named_as(entry.selection()).as_ref().unwrap_or(asked)),
            Self::Nothing => of(asked),
        }
    }
}

impl Shelf {
    /// What an answer takes here besides the shelf itself where there may be several.
    pub(super) const VARIANT_BYTES: usize = allocation(size_of::<Variants>()) + 2 * allocation(size_of::<Variant>());

    pub(super) fn of(resident: Resident) -> Self {
        if resident.entry.selection().is_empty() {
            return Self::One(resident);
        }
        let list = vec![Variant { resident, last_use: AtomicU64::new(0) }];
        Self::Several(Box::new(Variants { list, uses: AtomicU64::new(1) }))
    }

    /// The answer for a request, noted as used.
    pub(super) fn find(&self, asked: &Selection) -> Found {
        match self {
            Self::One(_) => self.only().map_or(Found::Nothing, Found::This),
            Self::Several(variants) => variants.find(asked),
        }
    }

    /// The answer for everyone with the key, if that is what it has, noted as used.
    pub(super) fn only(&self) -> Option<Arc<Entry>> {
        let Self::One(resident) = self else { return None };
        resident.entry.visit();
        Some(Arc::clone(&resident.entry))
    }

    /// The place of the answer that one chosen so replaces.
    pub(super) fn slot_of(&self, selection: &Selection) -> Option<usize> {
        self.residents().find(|resident| resident.entry.selection() == selection).map(|resident| resident.slot)
    }

    /// Adds an answer. What it is chosen by counts for all: answers chosen by other headers leave.
    pub(super) fn put(&mut self, resident: Resident, max_variants: usize) -> Displaced {
        match self {
            Self::Several(variants) if variants.are_chosen_like(&resident.entry) => {
                variants.put(resident, max_variants)
            }
            _ => {
                let outdated = std::mem::replace(self, Self::of(resident)).into_residents();
                Displaced { outdated, crowded_out: Vec::new() }
            }
        }
    }

    pub(super) fn residents(&self) -> impl Iterator<Item = &Resident> {
        let (one, several) = match self {
            Self::One(resident) => (Some(resident), None),
            Self::Several(variants) => (None, Some(variants.list.iter().map(|variant| &variant.resident))),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// Takes out those that are `unwanted`, and says whether none is left; then the shelf is of no more use.
    pub(super) fn take(&mut self, unwanted: impl Fn(&Arc<Entry>) -> bool, taken: &mut Vec<Resident>) -> bool {
        match self {
            Self::One(resident) => {
                let gone = unwanted(&resident.entry);
                taken.extend(gone.then(|| resident.clone()));
                gone
            }
            Self::Several(variants) => {
                let (gone, rest) =
                    std::mem::take(&mut variants.list).into_iter().partition(|held| unwanted(&held.resident.entry));
                variants.list = rest;
                taken.extend(Vec::into_iter(gone).map(|held| held.resident));
                variants.list.is_empty()
            }
        }
    }

    fn into_residents(self) -> Vec<Resident> {
        match self {
            Self::One(resident) => vec![resident],
            Self::Several(variants) => variants.list.into_iter().map(|held| held.resident).collect(),
        }
    }
}

impl Variants {
    fn find(&self, asked: &Selection) -> Found {
        match self.list.iter().find(|held| held.resident.entry.selection().answers(asked)) {
            Some(held) => {
                held.last_use.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                held.resident.entry.visit();
                Found::This(Arc::clone(&held.resident.entry))
            }
            None => self.list.first().map_or(Found::Nothing, |held| Found::Another(Arc::clone(&held.resident.entry))),
        }
    }

    fn are_chosen_like(&self, entry: &Entry) -> bool {
        self.list.iter().all(|held| held.resident.entry.selection().names_the_same(entry.selection()))
    }

    fn put(&mut self, resident: Resident, max_variants: usize) -> Displaced {
        let mut displaced = Displaced::default();
        let selection = resident.entry.selection();
        if let Some(at) = self.list.iter().position(|held| held.resident.entry.selection() == selection) {
            displaced.outdated.push(self.list.swap_remove(at).resident);
        }
        // More than one too many where a reload has lowered the bound.
        while self.list.len() >= max_variants.max(1) {
            let last_uses = self.list.iter().map(|held| held.last_use.load(Ordering::Relaxed));
            let Some((at, _)) = last_uses.enumerate().min_by_key(|(_, last_use)| *last_use) else { break };
            displaced.crowded_out.push(self.list.swap_remove(at).resident);
        }
        let last_use = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        self.list.push(Variant { resident, last_use });
        displaced
    }
}
