//! `[[stream]]` and its tables.

use std::time::Duration;

use crate::form::Form;
use crate::key::{Description, Key, Kind, Variants};
use crate::section::{Context, Names, Reader, Section, Setting, Writer, section, table_settings};
use crate::setting::choice_settings;
use crate::tree::Node;
use crate::{
    BatchEncoding, BatchPlan, ByteSize, Compression, CoreId, DeliveryPlan, Durability, Mode, Ratio, Retry, SpoolLimits,
    Stream,
};

const DESCRIPTION: Description = Description {
    title: "[[stream]]",
    doc: "A kind of record that agents upload, how its records merge and how its batches travel. Each stream has \
          its own journal and outbox.",
    keys: Head::KEYS,
    variants: Some(Variants {
        selector: "mode",
        cases: &[("events", EventKeys::KEYS), ("state", StateKeys::KEYS), ("raw", &[])],
    }),
};

/// The keys of every stream.
struct Head {
    name: String,
    mode: ModeName,
    core: CoreId,
    path: String,
    durability: Durability,
    max_in_flight: usize,
    batch: BatchPlan,
    spool: SpoolLimits,
    retry: Retry,
    delivery: DeliveryPlan,
}

section! { fields Head, "[[stream]]", head_agrees, {
    name: String = Key::required("process",
        "The name, unique, never changed: it names a directory and is part of every batch id.").form(Form::StreamName);
    mode: ModeName = Key::default("events",
        "How records merge.");
    core: CoreId = Key::computed("core",
        "The core that takes the batches. Left out, the first one.");
    path: String = Key::computed("/v1/batches/process",
        "The path at the core that takes the batches. Left out, /v1/batches/ and the stream's name.")
        .form(Form::RequestPath);
    durability: Durability = Key::default("fsync",
        "What an acknowledged upload survives.");
    max_in_flight: usize = Key::default("4",
        "Batches on their way at once, at most. Memory: batch.max_bytes for each; and as rows are gathered for so many \
         batches, up to 16, three times that at worst.").between("1", "1024");
    batch: BatchPlan = Key::table("When a batch closes and how it is packed.");
    spool: SpoolLimits = Key::table("The bounds of what is kept on disk.");
    retry: Retry = Key::table("How a batch is tried again.");
    delivery: DeliveryPlan = Key::table(
        "What becomes of a batch by the status that the core answers. A status is a number from 400 to 599, or \"4xx\" or \
         \"5xx\" for all that are not named. What no list names is tried again; 2xx always means that the core has the \
         batch, 207 that it has a part.");
}, &DESCRIPTION }

/// The keys of streams in mode `events`.
struct EventKeys {
    same: Vec<String>,
    exemplars: Vec<String>,
    max_exemplars: usize,
    window: Duration,
    max_keys: usize,
    max_merge_bytes: ByteSize,
    max_tenant_share: Ratio,
}

section! { fields EventKeys, "[[stream]]", share_agrees, {
    same: Vec<String> = Key::required(
        "[\"image_path\", \"cmdline\", \"sha256\", \"user\", \"parent_image\", \"parent_cmdline\"]",
        "The fields that make two records of one agent the same, each a top-level name or a JSON pointer (RFC \
         6901). One byte changed in any of them is a new key: put in all that a detection rule looks at.")
        .form(Form::Field).filled();
    exemplars: Vec<String> = Key::default("[\"pid\", \"ppid\", \"ts\"]",
        "The fields of which a repeat keeps examples.").form(Form::Field);
    max_exemplars: usize = Key::default("3",
        "Examples kept for each repeat, at most.").between("0", "100");
    window: Duration = Key::default("60s",
        "The time over which repeats are counted; a repeat reaches the core this much later than it happened, at most.")
        .between("100ms", "1h");
    max_keys: usize = Key::default("2000000",
        "Keys held in open windows at once, at most; past it the windows that end soonest leave early, marked.")
        .between("100", "1000000000");
    max_merge_bytes: ByteSize = Key::default("256 MiB",
        "Memory that open windows take, at most, counted from above; past it likewise. A key takes the bytes of its \
         `same` fields, about 200 more, and its exemplars; an agent takes about 600.")
        .between("1 MiB", "1 TiB");
    max_tenant_share: Ratio = Key::default("0.25",
        "The part of both bounds that one tenant may hold; past it that tenant's windows leave early, marked, and \
         nobody else's. Records without a tenant share one part. Without `identity.tenant` there are no parts.");
}, &DESCRIPTION }

/// The keys of streams in mode `state`.
struct StateKeys {
    key: Vec<String>,
    window: Duration,
    refresh: Duration,
    max_keys: usize,
    max_bytes: ByteSize,
}

section! { fields StateKeys, "[[stream]]", refresh_is_longer, {
    key: Vec<String> = Key::default("[]",
        "The fields that tell the states of one agent apart, each a top-level name or a JSON pointer (RFC 6901). Left \
         out, an agent has one state.")
        .form(Form::Field);
    window: Duration = Key::default("60s",
        "The time within which the last state wins. The first state of a key that is not known leaves at once.")
        .between("1s", "1h");
    refresh: Duration = Key::default("24h",
        "The time after which a state is sent though it has not changed. A key of which nothing has come for as long \
         is forgotten.").between("1m", "30d");
    max_keys: usize = Key::default("1000000",
        "Keys held at once, at most; over it those not seen for longest are forgotten, and their next states sent. A \
         key takes some 200 bytes of memory and its names, and 60 on disk.")
        .between("100", "100000000");
    max_bytes: ByteSize = Key::default("512 MiB",
        "Bytes of memory that keys, and states that wait for the end of their window, take at most; over it they leave \
         early.").between("1 MiB", "1 TiB");
}, &DESCRIPTION }

section! { BatchPlan, "stream.batch", "When a batch closes, whichever comes first, and how it is packed.", |_, _| {}, {
    max_bytes: ByteSize = Key::default("4 MiB",
        "Bytes of rows before compression, at most.").between("1 KiB", "1 GiB");
    max_records: usize = Key::default("50000",
        "Rows, at most.").between("1", "10000000");
    max_age: Duration = Key::default("1s",
        "The age of its first record at which a batch leaves.").between("10ms", "1h");
    compression: Compression = Key::default("lz4",
        "How it is packed.");
    encoding: BatchEncoding = Key::default("rows",
        "How its rows are written, before they are compressed. Shapes are for streams of mode events; a core that is sent \
         them is also sent rows, where these are shorter.");
}}

section! { SpoolLimits, "stream.spool", "The bounds of what is kept on disk.", |_, _| {}, {
    max_journal_bytes: ByteSize = Key::default("4 GiB",
        "Bytes of journal, at most; past it uploads are answered 503.").between("1 MiB", "100 TiB");
    max_outbox_bytes: ByteSize = Key::default("8 GiB",
        "Bytes of batches not yet acknowledged by the core, at most; past it uploads are answered 503. This is how \
         long an outage of the core can last.").between("1 MiB", "100 TiB");
    max_age: Duration = Key::default("7d",
        "The age at which a batch is given up that the core has not acknowledged: counted as expired, and told to the \
         core by a row of kind loss. 0s: never.").between("0s", "3650d");
    max_dead_bytes: ByteSize = Key::default("1 GiB",
        "Bytes of dead letters, at most; past it the oldest are removed: counted as dropped, and told to the core by a \
         row of kind loss.").between("4 KiB", "100 TiB");
    max_dead_files: usize = Key::default("10000",
        "Files of dead letters, at most; past it the oldest are removed.").between("1", "1000000");
    max_queued_uploads: usize = Key::default("4096",
        "Uploads waiting for the journal at once, at most; past it uploads are answered 503.").between("1", "1000000");
}}

section! { Retry, "stream.retry", "How a batch is tried again: exponential, with full jitter.", delays_agree, {
    initial: Duration = Key::default("200ms",
        "The upper bound of the first delay.").between("1ms", "1h");
    max: Duration = Key::default("30s",
        "The upper bound of every delay; a `Retry-After` is obeyed up to ten times of it.").between("1ms", "1d");
}}

table_settings!(BatchPlan, SpoolLimits, Retry);

/// The word of a [`Mode`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModeName {
    Events,
    State,
    Raw,
}

choice_settings! {
    ModeName {
        "events" => Events: "merge repeats of one agent";
        "state" => State: "the last one of each agent wins, unchanged ones are counted";
        "raw" => Raw: "batch only";
    }
    pub Durability {
        "fsync" => Fsync: "on stable storage: survives power loss";
        "os" => Os: "with the operating system: survives a crash of the node, not of the machine";
        "memory" => Memory: "in memory, written a moment later: a crash of the node loses the uploads that wait to be written";
    }
    pub Compression {
        "lz4" => Lz4: "LZ4 frame";
        "zstd" => Zstd: "Zstandard";
        "gzip" => Gzip: "gzip";
    }
    pub BatchEncoding {
        "rows" => Rows: "each row is a line";
        "shapes" => Shapes: "tables in columns; a process seen on many endpoints stands once";
    }
}

impl Setting for Stream {
    const KIND: Kind = Kind::Table(&DESCRIPTION);

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let mut reader = Reader::open(node, key, context)?;
        let head = Head::fields(&mut reader);
        // A mode that could not be read was reported; its keys cannot be judged then.
        let named = reader.node("mode").map_or(Some("events"), Node::text);
        let mode = match named {
            Some("events") => EventKeys::fields(&mut reader).map(EventKeys::into_mode),
            Some("state") => StateKeys::fields(&mut reader).map(StateKeys::into_mode),
            Some("raw") => Some(Mode::Raw),
            _ => None,
        };
        reader.finish(&DESCRIPTION, named.filter(|name| ["events", "state", "raw"].contains(name)));
        Some(head?.into_stream(mode?))
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        let mut writer = Writer::new(names);
        Head::of(self).write_fields(&mut writer);
        if let Some(keys) = EventKeys::of(&self.mode) {
            keys.write_fields(&mut writer);
        }
        if let Some(keys) = StateKeys::of(&self.mode) {
            keys.write_fields(&mut writer);
        }
        Some(toml::Value::Table(writer.table))
    }
}

impl Head {
    fn into_stream(self, mode: Mode) -> Stream {
        let Self { name, core, path, durability, max_in_flight, batch, spool, retry, delivery, .. } = self;
        Stream { name, mode, core, path, durability, batch, spool, retry, delivery, max_in_flight }
    }

    fn of(stream: &Stream) -> Self {
        Self {
            name: stream.name.clone(),
            mode: match stream.mode {
                Mode::Raw => ModeName::Raw,
                Mode::Events { .. } => ModeName::Events,
                Mode::State { .. } => ModeName::State,
            },
            core: stream.core,
            path: stream.path.clone(),
            durability: stream.durability,
            max_in_flight: stream.max_in_flight,
            batch: stream.batch,
            spool: stream.spool,
            retry: stream.retry,
            delivery: stream.delivery.clone(),
        }
    }
}

impl EventKeys {
    fn into_mode(self) -> Mode {
        let Self { same, exemplars, max_exemplars, window, max_keys, max_merge_bytes, max_tenant_share } = self;
        Mode::Events { same, exemplars, max_exemplars, window, max_keys, max_merge_bytes, max_tenant_share }
    }

    fn of(mode: &Mode) -> Option<Self> {
        let Mode::Events { same, exemplars, max_exemplars, window, max_keys, max_merge_bytes, max_tenant_share } =
            mode.clone()
        else {
            return None;
        };
        Some(Self { same, exemplars, max_exemplars, window, max_keys, max_merge_bytes, max_tenant_share })
    }
}

impl StateKeys {
    fn into_mode(self) -> Mode {
        let Self { key, window, refresh, max_keys, max_bytes } = self;
        Mode::State { key, window, refresh, max_keys, max_bytes }
    }

    fn of(mode: &Mode) -> Option<Self> {
        let Mode::State { key, window, refresh, max_keys, max_bytes } = mode.clone() else { return None };
        Some(Self { key, window, refresh, max_keys, max_bytes })
    }
}

fn refresh_is_longer(keys: &mut StateKeys, reader: &mut Reader<'_, '_>) {
    if keys.refresh < keys.window {
        let window = crate::duration_to_text(keys.window);
        let key = if reader.has("refresh") { "refresh" } else { "window" };
        reader.error(key, "`refresh` is less than `window`").label(format!("`window` is {window}"));
    }
}

fn head_agrees(head: &mut Head, reader: &mut Reader<'_, '_>) {
    if head.path.is_empty() {
        head.path = format!("/v1/batches/{}", head.name);
    }
    if head.name == RESERVED {
        reader
            .error("name", format!("the name `{RESERVED}` belongs to the presence reports"))
            .help("choose another name");
    }
    if head.spool.max_outbox_bytes < head.batch.max_bytes {
        reader
            .error("spool", "`spool.max_outbox_bytes` is less than `batch.max_bytes`")
            .label(format!("less than {}", head.batch.max_bytes))
            .note("not one full batch could be kept");
    }
    if head.batch.encoding == BatchEncoding::Shapes && head.mode != ModeName::Events {
        reader
            .error("batch", "`batch.encoding` is \"shapes\" and `mode` is not \"events\"")
            .note("a shape is what the fields in `same` say, which only streams of mode \"events\" have")
            .help("leave `encoding` out");
    }
}

fn share_agrees(keys: &mut EventKeys, reader: &mut Reader<'_, '_>) {
    if keys.max_tenant_share.value() == 0.0 {
        reader
            .error("max_tenant_share", "`max_tenant_share` is 0")
            .label("more than 0 is needed")
            .note("no tenant's records could be merged; `mode = \"raw\"` does not merge at all");
    }
}

/// The stream under which presence is reported.
const RESERVED: &str = "presence";

fn delays_agree(retry: &mut Retry, reader: &mut Reader<'_, '_>) {
    if retry.initial > retry.max {
        let most = crate::duration_to_text(retry.max);
        let key = if reader.has("initial") { "initial" } else { "max" };
        reader.error(key, "`initial` is more than `max`").label(format!("`max` is {most}"));
    }
}
