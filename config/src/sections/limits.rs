//! `[limits]`, `[limits.classes]` and `[limits.cache]`.

use std::time::Duration;

use super::admission::SHADOW;
use crate::key::Key;
use crate::section::{Reader, section, table_settings};
use crate::setting::choice_settings;
use crate::{
    AgentLimits, ByteSize, CacheLimits, ClassLimits, DampingLimits, Limits, PackageLimits, Ratio, Refusals,
    RetryAfterLimits, RolloutLimits, TenantLimits,
};

section! { Limits, "[limits]", "What one request may cost and what all of them together may.", limits_agree, {
    max_header_bytes: ByteSize = Key::default("32 KiB",
        "Bytes of a request's header section, at most; more is answered 431.").between("1 KiB", "1 MiB");
    max_target_bytes: ByteSize = Key::default("8 KiB",
        "Bytes of a request target, at most; more is answered 414.").between("64 B", "1 MiB");
    max_body_bytes: ByteSize = Key::default("4 MiB",
        "Bytes on the wire of a body that the node reads itself (uploads, keyed POSTs), at most; more is answered 413.")
        .between("1 KiB", "1 GiB");
    max_inflated_bytes: ByteSize = Key::default("32 MiB",
        "Bytes of such a body after decompression, at most; more is answered 413.").between("1 KiB", "4 GiB");
    max_inflation_ratio: usize = Key::default("200",
        "Bytes of an upload after decompression for each byte on the wire, at most; more is answered 413. Uploads of up \
         to 256 KiB after decompression are not asked.").between("1", "1000000");
    max_upload_records: usize = Key::default("10000",
        "Records in one upload, at most; more is answered 413.").between("1", "10000000");
    max_record_bytes: ByteSize = Key::default("256 KiB",
        "Bytes of one record, at most; a longer one is refused by its index, the others are taken.")
        .between("64 B", "64 MiB");
    max_string_bytes: ByteSize = Key::default("192 KiB",
        "Bytes of one string in a record as it is written between its quotes, at most, names of members included; a \
         record with a longer one is refused by its index. The default is a Windows command line of the greatest \
         length, every character escaped.").between("64 B", "64 MiB");
    max_json_depth: usize = Key::default("32",
        "Depth of nesting of a record or of a keyed POST body, at most.").between("1", "128");
    max_buffered_bytes: ByteSize = Key::default("256 MiB",
        "Bytes of request bodies held in memory at once over all requests, at most; more is answered 503. It counts \
         bodies as they arrive, what they unpack to, what their decoders need, and uploads that wait for a journal: \
         this bounds the memory that uploads take.").between("16 MiB", "1 TiB");
    tenant_share: Ratio = Key::default("0.25",
        "The part of max_buffered_bytes that the requests of one tenant may hold at once; more is answered 429. \
         Agents without a tenant have a share each, all requests without either have one together.");
    tenant_share_shadow: bool = Key::default("false",
        "Whether tenant_share refuses nothing and only counts what it would refuse, in weir_limit_shadow_total.");
    max_requests: usize = Key::default("20000",
        "Requests worked on at once, at most. Bounds, with max_header_bytes for each, the memory that requests \
         take besides their bodies.").between("1", "10000000");
    classes: ClassLimits = Key::table("The part of max_requests that each class may fill.");
    agents: AgentLimits = Key::table("How often one agent may ask.");
    tenants: TenantLimits = Key::table("What one tenant may take of the node.");
    damping: DampingLimits = Key::table("What becomes of agents that do not wait as they are told.");
    retry_after: RetryAfterLimits = Key::table("How long agents that are turned away are told to wait.");
    refusals: Refusals = Key::default("keep",
        "What a refusal does to its connection. \"close\" is what many servers do: it makes a herd of handshakes out \
         of an overload, and is here to measure that.");
    cache: CacheLimits = Key::table("The cache's bounds.");
    rollouts: RolloutLimits = Key::table("The bounds of what is kept to pace releases.");
    packages: PackageLimits = Key::table("The bounds of what the cache keeps on disk.");
}}

section! { ClassLimits, "[limits.classes]",
    "For each class the part of max_requests that requests of this class and of those below it may fill. The parts \
     must not rise from probe to telemetry: the lowest class sheds first, and the room above its part stays with \
     those over it.", parts_fall, {
    probe: Ratio = Key::default("1.0", "Health probes.");
    tasking: Ratio = Key::default("1.0", "Orders to an agent.");
    checkin: Ratio = Key::default("0.95", "Signs of life.");
    config: Ratio = Key::default("0.9", "Configuration.");
    update: Ratio = Key::default("0.85", "Update checks.");
    download: Ratio = Key::default("0.7", "Packages.");
    telemetry: Ratio = Key::default("0.6", "Uploads of events.");
    shadow: bool = SHADOW;
}}

section! { CacheLimits, "[limits.cache]", "The cache's bounds, over all routes.", objects_fit, {
    max_bytes: ByteSize = Key::default("512 MiB",
        "Bytes of memory for stored answers, keys and headers included, at most; the least recently used leave first.")
        .between("1 MiB", "1 TiB");
    max_object_bytes: ByteSize = Key::default("8 MiB",
        "Bytes of one stored answer's body, at most; a larger one is passed on without being stored.")
        .between("1 KiB", "1 GiB");
    max_waiters: usize = Key::default("10000",
        "Requests that wait for one fill, at most; the next is answered stale, calm or 503.").between("1", "10000000");
    max_keys: usize = Key::default("1000000",
        "Answers stored at once, those kept for lookups and keyed POSTs included, at most.").between("1", "1000000000");
    what_if_keys: usize = Key::default("16384",
        "Keys watched on each cached or lookup route for `weir ttl`, at most; of more keys a sample is watched. About 400 \
         bytes for each and 80 KiB for each route; 0 watches none.").between("0", "10000000");
}}

section! { RolloutLimits, "[limits.rollouts]",
    "The bounds of what routes with `rollout` keep besides the cache, in memory and in data_dir/rollouts.", |_, _| {}, {
    max_keys: usize = Key::default("1024",
        "Keys whose releases are remembered, at most. Past it those leave first on which no release is on its way, the \
         oldest before the others; a release whose key leaves is everybody's.").between("1", "1000000");
    max_bytes: ByteSize = Key::default("64 MiB",
        "Bytes of their answers, the settled one and the one on its way, at most.").between("64 KiB", "1 TiB");
}}

section! { PackageLimits, "[limits.packages]",
    "The bounds of what cached routes with store = \"disk\" keep in data_dir/packages, over all routes.", packages_fit, {
    max_bytes: ByteSize = Key::default("16 GiB",
        "Bytes on disk, of whole bodies and of those on their way, at most; the least recently used leave first. A body \
         that is still being read keeps its room on the disk until the last reader has left.").between("1 MiB", "1024 TiB");
    max_object_bytes: ByteSize = Key::default("4 GiB",
        "Bytes of one body, at most; a larger one is a failure of the core.").between("1 KiB", "1 TiB");
    max_objects: usize = Key::default("1000",
        "Bodies kept, at most. Each that was used since the start takes a file descriptor.").between("1", "1000000");
    max_read_bytes: ByteSize = Key::default("16 MiB",
        "Bytes of memory for reading them, shared by those who read: with many readers each is given smaller pieces, \
         down to 4 KiB.").between("64 KiB", "64 GiB");
    max_fill_time: Duration = Key::default("15m",
        "The time that one fill may take. Silence ends it earlier, after the core's request_timeout.").between("1s", "1d");
}}

table_settings!(Limits, ClassLimits, CacheLimits, PackageLimits, RolloutLimits);

choice_settings! {
    pub Refusals {
        "keep" => Keep: "nothing: the agent asks again without a handshake";
        "close" => Close: "it closes it";
    }
}

fn limits_agree(limits: &mut Limits, reader: &mut Reader<'_, '_>) {
    if limits.max_inflated_bytes < limits.max_body_bytes {
        reader
            .error("max_inflated_bytes", "`max_inflated_bytes` is less than `max_body_bytes`")
            .label(format!("less than {}", limits.max_body_bytes))
            .note("a body that is not compressed must pass both");
    }
    if limits.max_buffered_bytes < limits.max_inflated_bytes {
        reader
            .error("max_buffered_bytes", "`max_buffered_bytes` is less than `max_inflated_bytes`")
            .label(format!("less than {}", limits.max_inflated_bytes))
            .note("the largest body allowed could never be taken");
    } else if limits.tenant_share.of(limits.max_buffered_bytes) < limits.upload_bytes() {
        let key = if reader.has("tenant_share") { "tenant_share" } else { "max_buffered_bytes" };
        reader
            .error(key, "`tenant_share` of `max_buffered_bytes` is less than one upload may take")
            .label(format!("their product is less than {}", limits.upload_bytes()))
            .note(format!(
                "twice `max_body_bytes`, once `max_inflated_bytes`, and {} for the decoder",
                ByteSize::new(Limits::DECODER_BYTES)
            ))
            .note("the largest upload allowed could never be taken");
    }
    if limits.max_record_bytes > limits.max_inflated_bytes {
        reader
            .error("max_record_bytes", "`max_record_bytes` is more than `max_inflated_bytes`")
            .label(format!("more than {}", limits.max_inflated_bytes))
            .note("a record cannot be longer than the body it stands in");
    }
}

fn parts_fall(classes: &mut ClassLimits, reader: &mut Reader<'_, '_>) {
    let parts = classes.falling();
    for ((upper, room), (lower, part)) in parts.iter().zip(&parts[1..]) {
        if part > room {
            reader
                .error(lower, format!("`{lower}` may fill more than `{upper}`, which stands above it"))
                .label(format!("more than {room}"))
                .note("the parts must not rise from probe to telemetry, so that the lowest class sheds first");
        }
    }
}

impl ClassLimits {
    /// The classes' names and parts, from the highest class to the lowest.
    fn falling(&self) -> [(&'static str, Ratio); 7] {
        [
            ("probe", self.probe),
            ("tasking", self.tasking),
            ("checkin", self.checkin),
            ("config", self.config),
            ("update", self.update),
            ("download", self.download),
            ("telemetry", self.telemetry),
        ]
    }
}

fn objects_fit(cache: &mut CacheLimits, reader: &mut Reader<'_, '_>) {
    if cache.max_object_bytes > cache.max_bytes {
        reader
            .error("max_object_bytes", "`max_object_bytes` is more than `max_bytes`")
            .label(format!("more than {}", cache.max_bytes))
            .note("an answer larger than the cache can never be stored");
    }
}

fn packages_fit(packages: &mut PackageLimits, reader: &mut Reader<'_, '_>) {
    if packages.max_object_bytes > packages.max_bytes {
        reader
            .error("max_object_bytes", "`max_object_bytes` is more than `max_bytes`")
            .label(format!("more than {}", packages.max_bytes))
            .note("a body larger than the room for all of them can never be stored");
    }
}
