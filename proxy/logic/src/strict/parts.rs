//! Where the parts of a header section are: numbers, so that they can be kept while the bytes are moved.

use smallvec::SmallVec;

/// The parts of one section. Memory: none but its own 350 bytes up to 16 fields, then 20 bytes a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) method: u32,
    pub(super) target: u32,
    /// Beside the fields, so that a name is looked for in one line of the processor's cache.
    pub(super) tags: SmallVec<[Tag; USUAL_FIELDS]>,
    pub(super) fields: SmallVec<[Field; USUAL_FIELDS]>,
}

/// A field: where its name begins, and its value, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: u32,
    pub(super) name_length: u32,
    pub(super) value: u32,
    pub(super) value_length: u32,
}

/// What most names differ in: their length and their first letter in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u16);

impl Tag {
    pub(super) const fn of(name: &[u8]) -> Self {
        let first = if name.is_empty() { 0 } else { name[0] | 0x20 };
        Self(u16::from_le_bytes([first, name.len().to_le_bytes()[0]]))
    }
}

impl Parts {
    /// The method and the target, which begins one byte behind it, are so long.
    pub(super) fn line(&mut self, method: usize, target: usize) {
        (self.method, self.target) = (short(method), short(target));
    }

    /// One more field.
    pub(super) fn field(&mut self, tag: Tag, name: usize, name_length: usize, value: usize, value_length: usize) {
        self.tags.push(tag);
        self.fields.push(Field {
            name: short(name),
            name_length: short(name_length),
            value: short(value),
            value_length: short(value_length),
        });
    }
}

/// A place in a section. Nobody takes sections of 4 GiB; a part that lies there would be found empty.
fn short(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Most requests of agents have no more.
const USUAL_FIELDS: usize = 16;
