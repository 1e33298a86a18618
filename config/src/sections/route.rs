//! `[[route]]` and its tables.

use std::time::Duration;

use super::request::{judge_etag, judge_key, judge_methods, judge_vary};
use crate::form::Form;
use crate::key::{Description, Key, Kind, Variants};
use crate::section::{
    Context, Names, Reader, Section, Setting, Writer, read_table, section, table_settings, write_table,
};
use crate::setting::choice_settings;
use crate::tree::{Node, Value};
use crate::{
    Action, AgentRate, AggregateRoute, AnswerStore, BodyEtag, BodyPointer, ByteSize, CacheRoute, Calm, Class, CoreId,
    ForwardRoute, FreshnessMode, KeyPart, LookupRoute, Method, Pacing, PathPattern, Payload, Ratio, Route, StatusTtl,
    Unchanged,
};

const DESCRIPTION: Description = Description {
    title: "[[route]]",
    doc: "Which requests, and what to do with them. Of the routes that match a request the most specific counts: one \
          with a host before one without; then, segment by segment from the left, a literal before a parameter before \
          a rest. The order of the file does not matter, and two routes that are equally specific for one request are \
          refused.",
    keys: Head::KEYS,
    variants: Some(Variants {
        selector: "action",
        cases: &[
            ("cache", CacheRoute::KEYS),
            ("lookup", LookupKeys::KEYS),
            ("aggregate", AggregateRoute::KEYS),
            ("forward", ForwardKeys::KEYS),
        ],
    }),
};

/// The keys of every route.
struct Head {
    name: String,
    matcher: Match,
    class: Class,
    core: CoreId,
    agent_limit: Option<AgentRate>,
    action: ActionName,
}

section! { fields Head, "[[route]]", |_, _| {}, {
    name: String = Key::required("update-manifest",
        "The name in metrics, logs and `weir explain`. Unique.").form(Form::Name);
    matcher as "match": Match = Key::required("{ method = \"GET\", path = \"/v1/updates/{channel}/manifest.json\" }",
        "The requests that the route takes.");
    class: Class = Key::required("update",
        "The route's rank under overload, highest first; the lowest class sheds first.");
    core: CoreId = Key::computed("core",
        "The core behind the route. Left out, the first one.");
    agent_limit: Option<AgentRate> = Key::optional("{ requests_per_minute = 60, burst = 10 }",
        "A bucket that each agent has for this route alone. Left out, its requests count in the agent's bucket of \
         `[limits.agents]`.");
    action: ActionName = Key::required("cache",
        "What is done with the requests.");
}, &DESCRIPTION }

/// `route.match`.
struct Match {
    method: Vec<Method>,
    path: PathPattern,
    host: Option<String>,
}

section! { Match, "route.match", "The requests that the route takes.", |_, _| {}, {
    method: Vec<Method> = Key::default("GET",
        "The method, or a list of methods. GET also matches HEAD unless HEAD stands on a route of its own.").filled();
    path: PathPattern = Key::required("/v1/updates/{channel}/manifest.json",
        "The path. `{name}` is any one segment that is not empty; `{name*}`, at the end, is the rest, slashes \
         included.");
    host: Option<String> = Key::optional("agents.example.com",
        "The host, in lower case without a port. Left out, any.").form(Form::Host);
}}

section! { CacheRoute, "[[route]] with action \"cache\"",
    "Answered here: filled, revalidated, served stale.", bounds_agree, {
    key: Vec<KeyPart> = Key::default("[]",
        "What tells answers apart: identity.agent, identity.tenant, path.NAME, query.NAME, header.NAME, or for POST \
         body./POINTER. Nothing is in the key unless it is named, but the route and, unless shared, the tenant.");
    vary: Vec<String> = Key::default("[]",
        "Request headers, in lower case, that the core may choose an answer by and then says in Vary, such as \
         accept-language. They are sent to the core; answers are told apart by those that their Vary names.")
        .form(Form::Header);
    max_variants: usize = Key::default("8",
        "Answers of one key that are kept side by side because of Vary, at most; the one not asked for longest leaves.")
        .between("1", "64");
    shared: bool = SHARED;
    freshness: FreshnessMode = Key::default("override",
        "Who decides how long an answer is fresh. proxy/CACHING.md says what each means for every directive.");
    ttl: StatusTtl = Key::table("How long an answer is fresh, by its status; a lone time is `ok`. Where the core \
         decides, this is for answers of which it says nothing.");
    min_ttl: Duration = Key::default("0s",
        "With freshness = \"clamp\", the shortest time for which an answer is fresh of which the core says how long.")
        .between("0s", "365d");
    max_ttl: Duration = Key::default("1d",
        "With freshness = \"clamp\", the longest such time.").between("0s", "365d");
    jitter: Ratio = JITTER;
    stale_while_revalidate: Duration = Key::default("1m",
        "The time past its TTL for which an answer is served while it is fetched anew.").between("0s", "365d");
    stale_if_error: Duration = STALE_IF_ERROR;
    calm: Option<Calm> = CALM;
    obey_agents: bool = Key::default("false",
        "Whether the Cache-Control of agents' requests counts: max-age, min-fresh, max-stale, no-cache, no-store, \
         only-if-cached. Where it does, an agent can make the node ask the core.");
    max_body_bytes: ByteSize = Key::default("64 KiB",
        "Bytes of a POST body that the key is taken from, at most; more is answered 413.").between("1 B", "64 MiB");
    etag: Option<BodyEtag> = Key::optional("{ request = \"body./etag\" }",
        "For agents that name the entity tag that they hold inside the body of a POST, and not in If-None-Match.");
    payload: Option<Payload> = Key::optional(
        "{ url = \"body./packages/*/url\", sha256 = \"body./packages/*/sha256\" }",
        "For manifests: the payloads that an answer names. A changed answer is used once this node holds all of them and \
         each is what the answer says; until then the one before it is given.");
    rollout: Option<Pacing> = Key::optional("{ over = \"4h\" }",
        "The pace at which a changed answer reaches the agents, each at its turn; until then an agent is given the answer \
         before it. Left out, all agents get a change at once.");
    store: AnswerStore = Key::default("memory",
        "Where answers are kept. `disk` is for large ones: they stream from a file that one fill writes for all agents, \
         while it is still being written, and outlive a restart.");
    max_bytes_per_second: ByteSize = Key::default("0 B",
        "With store = \"disk\", bytes a second that this node gives of one answer to all agents together; 0: no bound.")
        .between("0 B", "1 TiB");
}}

const SHARED: Key = Key::default("false", "Whether one tenant's answer may go to another.");

const JITTER: Key = Key::default(
    "0.1",
    "The part of a TTL that is drawn at random and taken off, so that keys filled together do not expire together.",
);

const STALE_IF_ERROR: Key =
    Key::default("1d", "The time past its TTL for which an answer is served while the core fails.")
        .between("0s", "365d");

const CALM: Key = Key::optional(
    "{ status = 204 }",
    "A harmless answer of yours (\"no update\", \"no task\") for when the core fails and nothing is stored. Left \
     out, such a request is answered 503 with Retry-After.",
);

section! { StatusTtl, "route.ttl", "How long an answer is fresh, by its status; 0s: not stored.", |_, _| {}, {
    ok: Duration = Key::default("60s", "200, 203 and 204.").between("0s", "365d");
    redirect: Duration = Key::default("60s", "301 and 308.").between("0s", "365d");
    not_found: Duration = Key::default("5s", "404 and 410.").between("0s", "365d");
}}

impl Setting for StatusTtl {
    const KIND: Kind = Kind::Either(&Kind::Duration, &Kind::Table(<Self as Section>::DESCRIPTION));

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        if matches!(node.value, Value::Text(_)) {
            let ok =
                Duration::read(node, &Key { kind: Kind::Duration, between: Self::KEYS[0].between, ..*key }, context)?;
            let rest = crate::tree::literal("{}", node.at)?;
            return read_table(&rest, key, context).map(|defaults: Self| Self { ok, ..defaults });
        }
        read_table(node, key, context)
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        Some(write_table(self, names))
    }
}

section! { BodyEtag, "route.etag", "Where a POST body names the entity tag that its agent holds.", |_, _| {}, {
    request: BodyPointer = Key::required("body./etag",
        "The place in the agent's body. Never part of the key, and emptied before the body is sent to the core.");
    answer: Option<BodyPointer> = Key::optional("body./etag",
        "The place in an answer's body that holds its tag, for agents that take it from there. Left out, agents name \
         the answer's ETag, which is a hash of its bytes where the core gives none.");
    unchanged: Unchanged = Key::table("What an agent is told that holds the answer already.");
}}

section! { Payload, "route.payload", "Where an answer names payloads.", places_meet, {
    url: BodyPointer = Key::required("body./packages/*/url",
        "The place of a payload's URL in the answer's JSON: a path, or a URL of the host that the agent asks. `*` is every \
         member of a list or an object. A GET for it must lead to a cached route, and be told apart by nothing but its \
         path, its query and the tenant.");
    sha256: BodyPointer = Key::required("body./packages/*/sha256",
        "The place of its SHA-256, in hexadecimal. Up to the last `*` it is the same place.");
    max: usize = Key::default("64",
        "Payloads of one answer, at most; one that names more is not used.").between("1", "4096");
}}

section! { Pacing, "route.rollout", "The pace at which a changed answer reaches the agents.", |_, _| {}, {
    over: Duration = Key::required("4h",
        "The time from no agent to all. Which agents are first is drawn anew for each change.").between("0s", "365d");
    share: Ratio = Key::default("1.0",
        "The part of the agents that a change reaches, at most; raising it lets the change go on from where it stands.");
}}

section! { Unchanged, "route.etag.unchanged", "What an agent is told that holds the answer already.", unchanged_agrees, {
    status: u16 = Key::default("304",
        "The status: 200 to 299, or 304.").between("200", "304");
    body: String = Key::default("",
        "The body; none with 204, 205 and 304.");
    content_type: String = Key::default("application/json",
        "The body's media type.").form(Form::MediaType);
}}

section! { Calm, "route.calm", "A harmless answer of yours.", calm_agrees, {
    status: u16 = Key::default("204",
        "The status.").between("200", "299");
    body: String = Key::default("",
        "The body; none with 204 and 205.");
    content_type: String = Key::default("application/json",
        "The body's media type.").form(Form::MediaType);
    retry_after: Option<Duration> = Key::optional("60s",
        "The time after which the agent should ask again, sent as Retry-After, spread over half of itself. Left \
         out, not sent.")
        .between("1s", "1d");
}}

/// The keys of a route with action `lookup`.
struct LookupKeys {
    lookup: LookupTable,
    shared: bool,
    calm: Option<Calm>,
}

section! { LookupKeys, "[[route]] with action \"lookup\"", "Answered through bulk lookups.", |_, _| {}, {
    lookup: LookupTable = Key::required("{ path = \"/v1/tasks:lookup\", key = [\"identity.agent\"] }",
        "How requests become bulk requests.");
    shared: bool = SHARED;
    calm: Option<Calm> = CALM;
}}

/// `route.lookup`.
struct LookupTable {
    path: String,
    key: Vec<KeyPart>,
    window: Duration,
    max_keys: usize,
    max_waiters: usize,
    ttl: Duration,
    max_ttl: Duration,
    jitter: Ratio,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    refresh_ahead: Ratio,
    refresh_window: Duration,
}

section! { LookupTable, "route.lookup", "How requests become bulk requests.", lookup_agrees, {
    path: String = Key::required("/v1/tasks:lookup",
        "The path at the core that takes bulk requests.").form(Form::RequestPath);
    key: Vec<KeyPart> = Key::required("[\"identity.agent\"]",
        "What tells requests apart, as `key` of cached routes; identical keys join. The tenant is in it unless \
         shared.");
    window: Duration = Key::default("25ms",
        "The time that the first request of a window waits for company.").between("0s", "10s");
    max_keys: usize = Key::default("1000",
        "Keys in one bulk request, at most.").between("1", "100000");
    max_waiters: usize = Key::default("20000",
        "Requests waiting at once over all windows, at most; the next is answered calm or 503.")
        .between("1", "10000000");
    ttl: Duration = Key::default("0s",
        "The time for which an answer is kept when the core names none. `0s` keeps nothing, as tasking wants it.")
        .between("0s", "365d");
    max_ttl: Duration = Key::default("1h",
        "The longest time for which the core may ask that an answer be kept.").between("0s", "365d");
    jitter: Ratio = JITTER;
    stale_while_revalidate: Duration = Key::default("0s",
        "The time past its TTL for which a kept answer is served at once, while it is fetched anew with a bulk request \
         that nobody waits for. Not for orders: what is served so is older than the request.")
        .between("0s", "365d");
    stale_if_error: Duration = STALE_IF_ERROR;
    refresh_ahead: Ratio = Key::default("0.1",
        "The part of its TTL before the end at which a kept answer that was asked for since it came is fetched anew. \
         `0`: none is.");
    refresh_window: Duration = Key::default("1s",
        "The time for which keys gather that are fetched anew while nobody waits. They leave earlier with a bulk \
         request of the route that has room for them.").between("0s", "1m");
}}

section! { AggregateRoute, "[[route]] with action \"aggregate\"", "Takes records in.", |_, _| {}, {
    stream: String = Key::required("process",
        "The stream that takes the records.").form(Form::Stream);
}}

/// The keys of a route with action `forward`.
struct ForwardKeys {
    forward: ForwardRoute,
}

section! { ForwardKeys, "[[route]] with action \"forward\"", "Passes through.", |_, _| {}, {
    forward: ForwardRoute = Key::table("How requests pass through.");
}}

section! { ForwardRoute, "route.forward", "How requests pass through.", |_, _| {}, {
    websocket: bool = Key::default("false",
        "Whether `Upgrade: websocket` is passed on.");
    max_body_bytes: ByteSize = Key::default("64 MiB",
        "Bytes of a request body, at most; more is answered 413. The body is streamed, not held.")
        .between("1 B", "1 TiB");
}}

table_settings!(Match, BodyEtag, Payload, Pacing, Unchanged, Calm, LookupTable, ForwardRoute);

/// The word of an [`Action`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum ActionName {
    Cache,
    Lookup,
    Aggregate,
    Forward,
}

choice_settings! {
    ActionName {
        "cache" => Cache: "answer here; fill, revalidate, serve stale";
        "lookup" => Lookup: "join a bulk lookup";
        "aggregate" => Aggregate: "take records in, merge them, send them in batches";
        "forward" => Forward: "pass through, streaming";
    }
    pub AnswerStore {
        "memory" => Memory: "in memory, within limits.cache";
        "disk" => Disk: "bodies of 200 in files, within limits.packages";
    }
    pub FreshnessMode {
        "override" => Override: "you do, with ttl; the core can only forbid to store";
        "clamp" => Clamp: "the core does, between min_ttl and max_ttl";
        "honor" => Honor: "the core does";
    }
    pub Class {
        "probe" => Probe: "health probes";
        "tasking" => Tasking: "orders to an agent: never paced";
        "checkin" => Checkin: "signs of life";
        "config" => Config: "configuration";
        "update" => Update: "update checks";
        "download" => Download: "packages";
        "telemetry" => Telemetry: "uploads of events";
    }
    pub Method {
        "GET" => Get: "GET";
        "HEAD" => Head: "HEAD";
        "POST" => Post: "POST";
        "PUT" => Put: "PUT";
        "PATCH" => Patch: "PATCH";
        "DELETE" => Delete: "DELETE";
        "OPTIONS" => Options: "OPTIONS";
    }
}

impl Setting for Route {
    const KIND: Kind = Kind::Table(&DESCRIPTION);

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        let mut reader = Reader::open(node, key, context)?;
        let head = Head::fields(&mut reader);
        let name = reader.node("action").and_then(Node::text);
        let name = name.filter(|name| {
            DESCRIPTION.variants.iter().any(|variants| variants.cases.iter().any(|(case, _)| case == name))
        });
        let action = match name {
            Some("cache") => CacheRoute::fields(&mut reader).map(Action::Cache),
            Some("lookup") => LookupKeys::fields(&mut reader).map(|keys| Action::Lookup(keys.into_route())),
            Some("aggregate") => AggregateRoute::fields(&mut reader).map(Action::Aggregate),
            Some("forward") => ForwardKeys::fields(&mut reader).map(|keys| Action::Forward(keys.forward)),
            _ => None,
        };
        if let Some(name) = name {
            judge_methods(name, &mut reader);
            judge_key(name, &mut reader);
            judge_vary(name, &mut reader);
            judge_etag(name, &mut reader);
        }
        reader.finish(&DESCRIPTION, name);
        head.zip(action).map(|(head, action)| head.into_route(action))
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        let mut writer = Writer::new(names);
        Head::of(self).write_fields(&mut writer);
        match &self.action {
            Action::Cache(route) => route.write_fields(&mut writer),
            Action::Lookup(route) => LookupKeys::of(route).write_fields(&mut writer),
            Action::Aggregate(route) => route.write_fields(&mut writer),
            Action::Forward(route) => ForwardKeys { forward: route.clone() }.write_fields(&mut writer),
        }
        Some(toml::Value::Table(writer.table))
    }
}

impl Head {
    fn into_route(self, action: Action) -> Route {
        let Self { name, matcher: Match { method, path, host }, class, core, agent_limit, .. } = self;
        Route { name, methods: method, path, host, class, core, agent_limit, action }
    }

    fn of(route: &Route) -> Self {
        let matcher = Match { method: route.methods.clone(), path: route.path.clone(), host: route.host.clone() };
        let action = match route.action {
            Action::Cache(_) => ActionName::Cache,
            Action::Lookup(_) => ActionName::Lookup,
            Action::Aggregate(_) => ActionName::Aggregate,
            Action::Forward(_) => ActionName::Forward,
        };
        Self {
            name: route.name.clone(),
            matcher,
            class: route.class,
            core: route.core,
            agent_limit: route.agent_limit,
            action,
        }
    }
}

impl LookupKeys {
    fn into_route(self) -> LookupRoute {
        let table = self.lookup;
        LookupRoute {
            path: table.path,
            key: table.key,
            shared: self.shared,
            window: table.window,
            max_keys: table.max_keys,
            max_waiters: table.max_waiters,
            ttl: table.ttl,
            max_ttl: table.max_ttl,
            jitter: table.jitter,
            stale_while_revalidate: table.stale_while_revalidate,
            stale_if_error: table.stale_if_error,
            refresh_ahead: table.refresh_ahead,
            refresh_window: table.refresh_window,
            calm: self.calm,
        }
    }

    fn of(route: &LookupRoute) -> Self {
        let lookup = LookupTable {
            path: route.path.clone(),
            key: route.key.clone(),
            window: route.window,
            max_keys: route.max_keys,
            max_waiters: route.max_waiters,
            ttl: route.ttl,
            max_ttl: route.max_ttl,
            jitter: route.jitter,
            stale_while_revalidate: route.stale_while_revalidate,
            stale_if_error: route.stale_if_error,
            refresh_ahead: route.refresh_ahead,
            refresh_window: route.refresh_window,
        };
        Self { lookup, shared: route.shared, calm: route.calm.clone() }
    }
}

fn calm_agrees(calm: &mut Calm, reader: &mut Reader<'_, '_>) {
    if [204, 205].contains(&calm.status) && !calm.body.is_empty() {
        reader
            .error("body", format!("an answer {} has no body", calm.status))
            .note("RFC 9110, sections 15.3.5 and 15.3.6")
            .help("leave `body` out, or set `status = 200`");
    }
}

fn bounds_agree(route: &mut CacheRoute, reader: &mut Reader<'_, '_>) {
    if route.min_ttl > route.max_ttl {
        let most = crate::duration_to_text(route.max_ttl);
        reader.error("min_ttl", "`min_ttl` is more than `max_ttl`").label(format!("`max_ttl` is {most}"));
    }
    let on_disk = route.store == AnswerStore::Disk;
    for (key, given, why) in [
        ("etag", route.etag.is_some(), "a tag inside the body is looked for in answers that are in memory"),
        ("vary", !route.vary.is_empty(), "a key has one body on disk; name the headers in `key`"),
        ("payload", route.payload.is_some(), "a manifest is read in memory"),
        ("rollout", route.rollout.is_some(), "what is paced is the manifest that names a package, not the package"),
    ] {
        if on_disk && given {
            reader.error(key, format!("`{key}` does not go with `store = \"disk\"`")).note(why);
        }
    }
    if route.store == AnswerStore::Memory && route.max_bytes_per_second > ByteSize::default() {
        reader
            .error("max_bytes_per_second", "`max_bytes_per_second` has no meaning for answers in memory")
            .help("set `store = \"disk\"`");
    }
}

fn unchanged_agrees(unchanged: &mut Unchanged, reader: &mut Reader<'_, '_>) {
    if !matches!(unchanged.status, 200..=299 | 304) {
        reader
            .error("status", format!("{} does not say that nothing has changed", unchanged.status))
            .help("use 304, or 200 with a `body`");
    } else if [204, 205, 304].contains(&unchanged.status) && !unchanged.body.is_empty() {
        reader
            .error("body", format!("an answer {} has no body", unchanged.status))
            .note("RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5")
            .help("leave `body` out, or set `status = 200`");
    }
}

fn places_meet(payload: &mut Payload, reader: &mut Reader<'_, '_>) {
    let ends = |pointer: &BodyPointer| pointer.0.ends_with("/*");
    let stem = |pointer: &BodyPointer| {
        let tokens: Vec<String> = pointer.0.split('/').map(str::to_owned).collect();
        let last = tokens.iter().rposition(|token| token == "*").map_or(0, |at| at + 1);
        tokens[..last].to_vec()
    };
    if ends(&payload.url) || ends(&payload.sha256) {
        let key = if ends(&payload.url) { "url" } else { "sha256" };
        reader
            .error(key, "`*` is every member of a list: it does not name one")
            .help("name a member, as in `body./packages/*/url`");
    } else if stem(&payload.url) != stem(&payload.sha256) {
        reader
            .error("sha256", "`url` and `sha256` stand in different lists")
            .note("up to the last `*` both are the same place, so that each URL has its digest");
    }
}

fn lookup_agrees(lookup: &mut LookupTable, reader: &mut Reader<'_, '_>) {
    if lookup.ttl > lookup.max_ttl {
        let most = crate::duration_to_text(lookup.max_ttl);
        reader.error("ttl", "`ttl` is more than `max_ttl`").label(format!("`max_ttl` is {most}"));
    }
}
