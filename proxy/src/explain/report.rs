//! The lines of an explanation: a label, a value, one fact each.

use std::fmt::Write;
use std::time::Duration;

use weir_batch::{Encoding, Framing, Upload};
use weir_config::{
    Action, AggregateRoute, AnswerStore, CacheRoute, Calm, Class, Config, ForwardRoute, FreshnessMode, LookupRoute,
    Mode, Payload, Ratio, Route, duration_to_text,
};
use weir_logic::admit::{Admission, Rules};
use weir_logic::key::{self, KeyError, NamedValue, Scope};
use weir_logic::{Call, Identity, Refusal, cache};

use crate::aggregate::upload_limits;

/// An explanation in the making.
#[derive(Debug, Default)]
pub(super) struct Report {
    text: String,
}

impl Report {
    pub(super) fn text(self) -> String {
        self.text
    }

    pub(super) fn line(&mut self, label: &str, value: impl AsRef<str>) {
        for (number, line) in value.as_ref().lines().enumerate() {
            let label = if number == 0 { label } else { "" };
            // Writing to a String does not fail.
            let _written: std::fmt::Result = writeln!(self.text, "{label:<12} {line}");
        }
    }

    pub(super) fn refused(&mut self, refusal: Refusal, why: &str) {
        self.line("answer", format!("{} {}: {why}", refusal.status(), refusal.label()));
    }

    pub(super) fn route(&mut self, config: &Config, route: &Route, identity: &Identity) {
        let methods: Vec<String> = route.methods.iter().map(|method| format!("{method:?}").to_uppercase()).collect();
        let host = route.host.as_deref().map_or(String::new(), |host| format!(" at {host}"));
        self.line("route", format!("{} ({} {}{host})", route.name, methods.join(" "), route.path.text));
        self.line("class", format!("{:?}", route.class).to_lowercase());
        self.line("core", &config.core(route.core).name);
        self.gate(config, route);
        let agent = identity.agent.as_ref().map_or("unknown", |agent| agent.as_str());
        let tenant = identity.tenant.as_ref().map_or("unknown", |tenant| tenant.as_str());
        self.line("identity", format!("agent {agent}, tenant {tenant}"));
    }

    /// What stands between the route and its core.
    fn gate(&mut self, config: &Config, route: &Route) {
        let core = config.core(route.core);
        let in_flight = if core.adaptive {
            format!("{} to {} in flight", core.min_in_flight.min(core.max_in_flight), core.max_in_flight)
        } else {
            format!("{} in flight", core.max_in_flight)
        };
        let share = core.max_route_share.value() * 100.0;
        let pace = if route.class <= Class::Tasking { "not held to" } else { "held to" };
        let wait = duration_to_text(core.max_wait);
        self.line(
            "gate",
            format!(
                "{in_flight}, {share:.0} % of them for this route; {pace} {} requests a second; waits {wait} at most",
                core.max_requests_per_second
            ),
        );
    }

    /// The limits that the request passes before anything is done with it, in their order.
    pub(super) fn limits(&mut self, config: &Config, route: &Route, identity: &Identity) {
        let limits = &config.limits;
        let (per_minute, burst, whose) = match &route.agent_limit {
            Some(own) => (own.requests_per_minute, own.burst, "on this route"),
            None => {
                (limits.agents.requests_per_minute, limits.agents.burst, "on all routes without a limit of their own")
            }
        };
        let shadow = |shadow: bool| if shadow { " (counts, refuses nothing)" } else { "" };
        let agent = format!("{per_minute} requests a minute, {burst} at once, {whose}{}", shadow(limits.agents.shadow));
        self.line(
            "limits",
            if identity.agent.is_some() { format!("agent: {agent}") } else { "agent: none without a name".to_owned() },
        );
        let rules = Rules::new(limits);
        let (room, max) = (Admission::new(limits).room(route.class), limits.max_requests);
        self.line(
            "",
            format!("class: while fewer than {room} of {max} requests are worked on{}", shadow(limits.classes.shadow)),
        );
        let tenants = &limits.tenants;
        let weight = rules.weight(identity.tenant.as_ref());
        let alone = tenants.share.value() * 100.0;
        self.line(
            "",
            format!("tenant: weight {weight}, alone up to {alone:.0} % of that at weight 1{}", shadow(tenants.shadow)),
        );
        if let Some(rate) = tenants.max_requests_per_second {
            self.line("", format!("node: {rate} requests a second of all agents, shared by the same rules"));
        }
        let waits = rules.waits(route.class);
        let (shortest, longest) = (duration_to_text(waits.shortest), duration_to_text(waits.longest));
        self.line(
            "turned away",
            format!("told to come back after {shortest} to {longest}, each agent at its own time"),
        );
    }

    pub(super) fn action(&mut self, config: &Config, call: &Call<'_>) {
        match &call.route.action {
            Action::Cache(route) => self.cache(config, call, route),
            Action::Lookup(route) => self.lookup(call, route),
            Action::Aggregate(route) => self.aggregate(config, call, route),
            Action::Forward(route) => self.forward(route),
        }
    }

    fn cache(&mut self, config: &Config, call: &Call<'_>, route: &CacheRoute) {
        self.line("action", "cache: answered here; one fill for all who ask for the same key");
        let explanation = match cache::explain(call, route) {
            Ok(explanation) => explanation,
            Err(error) => return self.no_key(error),
        };
        self.key(&explanation.key, route.shared);
        self.line("digest", &explanation.digest);
        if !explanation.vary.is_empty() {
            let lines: Vec<String> = explanation.vary.iter().map(part_text).collect();
            self.line("vary", lines.join("\n"));
            self.line("", format!("of these, what the answer's Vary names; {} answers at most", route.max_variants));
        }
        let ttl = &route.ttl;
        let said = match route.freshness {
            FreshnessMode::Override => String::new(),
            FreshnessMode::Honor => "as long as the core says, else ".to_owned(),
            FreshnessMode::Clamp => format!(
                "as long as the core says, from {} to {}, else ",
                duration_to_text(route.min_ttl),
                duration_to_text(route.max_ttl)
            ),
        };
        self.line(
            "fresh for",
            format!(
                "{said}{} (200, 203, 204), {} (301, 308), {} (404, 410){}",
                kept(ttl.ok),
                kept(ttl.redirect),
                kept(ttl.not_found),
                jitter(route.jitter),
            ),
        );
        self.line(
            "stale for",
            format!(
                "{} more while it is fetched anew, {} more while the core fails",
                duration_to_text(route.stale_while_revalidate),
                duration_to_text(route.stale_if_error),
            ) + if route.freshness == FreshnessMode::Override { "" } else { ", at most" },
        );
        if let Some(dialect) = &route.etag {
            let (place, status) = (&dialect.request, dialect.unchanged.status);
            self.line("etag", format!("in If-None-Match or at {place}, answered {status} where it is current"));
        }
        self.large(config, route);
        self.releases(route);
        self.calm(route.calm.as_ref());
        let fill = &explanation.fill;
        let body = if fill.body_bytes > 0 { format!(", {} bytes of body", fill.body_bytes) } else { String::new() };
        self.line("sent", format!("{} {}{body}", fill.method, fill.target));
        for (name, value) in &fill.headers {
            self.line("", format!("{name}: {value}"));
        }
        if !explanation.dropped_query.is_empty() {
            self.line("not sent", format!("query {}: not in the key", explanation.dropped_query.join(", ")));
        }
    }

    /// Where large answers are kept, and how fast they are given.
    fn large(&mut self, config: &Config, route: &CacheRoute) {
        if route.store == AnswerStore::Disk {
            let most = config.limits.packages.max_object_bytes;
            let pace = match route.max_bytes_per_second {
                rate if rate.bytes() == 0 => String::new(),
                rate => format!("; each is given to all agents together at {rate} a second at most"),
            };
            self.line("kept", format!("on disk, {most} at most{pace}"));
        }
    }

    /// What a changed answer waits for.
    fn releases(&mut self, route: &CacheRoute) {
        if let Some(payload) = &route.payload {
            let Payload { url, sha256, max } = payload;
            self.line(
                "payloads",
                format!("used once what {url} names is stored with the SHA-256 at {sha256}; {max} at most"),
            );
        }
        if let Some(pacing) = &route.rollout {
            let (over, share) = (duration_to_text(pacing.over), pacing.share.value() * 100.0);
            self.line("rollout", format!("a changed answer reaches {share:.0} % of the agents at most, over {over}"));
        }
    }

    fn lookup(&mut self, call: &Call<'_>, route: &LookupRoute) {
        self.line("action", "lookup: joins the bulk lookup that is forming");
        let parts = match key::parts(&route.key, Scope::of(route.shared), call) {
            Ok(parts) => parts,
            Err(error) => return self.no_key(error),
        };
        self.key(&parts, route.shared);
        self.line(
            "window",
            format!("waits up to {} for company, {} keys at most", duration_to_text(route.window), route.max_keys),
        );
        self.line(
            "kept for",
            format!(
                "{} unless the core says otherwise, {} at most{}; {} more while it is fetched anew, {} while the core fails",
                kept(route.ttl),
                duration_to_text(route.max_ttl),
                jitter(route.jitter),
                duration_to_text(route.stale_while_revalidate),
                duration_to_text(route.stale_if_error),
            ),
        );
        let ahead = route.refresh_ahead.value();
        if ahead > 0.0 {
            let gathered = duration_to_text(route.refresh_window);
            self.line(
                "fetched anew",
                format!(
                    "{:.0} % of that time before its end, if it was asked for; up to {gathered} for company",
                    ahead * 100.0
                ),
            );
        }
        self.calm(route.calm.as_ref());
        self.line("sent", format!("POST {} with this key among others", route.path));
    }

    fn aggregate(&mut self, config: &Config, call: &Call<'_>, route: &AggregateRoute) {
        let Some(stream) = config.stream(&route.stream) else { return };
        self.line("action", format!("aggregate: into the journal of stream {}, then 202", stream.name));
        self.line(
            "merge",
            match &stream.mode {
                Mode::Raw => "none: every record leaves as it came".to_owned(),
                Mode::Events { same, window, .. } => {
                    format!("repeats of one agent within {}, same in {}", duration_to_text(*window), same.join(", "))
                }
                Mode::State { key, window, refresh, .. } => format!(
                    "the last state of each {} within {}, unchanged ones counted for {}",
                    if key.is_empty() { "agent".to_owned() } else { format!("agent and {}", key.join(", ")) },
                    duration_to_text(*window),
                    duration_to_text(*refresh)
                ),
            },
        );
        let batch = &stream.batch;
        self.line(
            "sent",
            format!(
                "POST {} in a batch of at most {} rows or {}, {} after its first record",
                stream.path,
                batch.max_records,
                batch.max_bytes,
                duration_to_text(batch.max_age)
            ),
        );
        if !call.request.body.is_empty() {
            self.upload(config, call);
        }
    }

    fn upload(&mut self, config: &Config, call: &Call<'_>) {
        let headers = call.request.headers;
        let Ok(encoding) = Encoding::from_header(headers.text("content-encoding")) else {
            return self.refused(Refusal::UnsupportedEncoding, "an encoding that the node does not know");
        };
        let framing = Framing::from_content_type(headers.text("content-type"));
        match Upload::parse(call.request.body, encoding, framing, &upload_limits(config)) {
            Err(error) => self.line("answer", format!("{}: {error}", error.status().unwrap_or(503))),
            Ok(upload) => {
                self.line("records", format!("{} accepted, {} refused", upload.accepted, upload.refused_count()));
                for refusal in upload.refused.iter().take(MAX_REFUSALS) {
                    self.line("", format!("record {}: {}", refusal.index, refusal.reason));
                }
            }
        }
    }

    fn forward(&mut self, route: &ForwardRoute) {
        let websocket = if route.websocket { ", WebSocket upgrades too" } else { "" };
        self.line("action", format!("forward: passed through{websocket}"));
        self.line("body", format!("{} at most", route.max_body_bytes));
        self.line("sent", "the request as it came, connection headers replaced, identity headers set by the node");
    }

    fn key(&mut self, parts: &[NamedValue], shared: bool) {
        let scope = if shared { "shared: one answer for all tenants" } else { "one answer for each tenant" };
        self.line("scope", scope);
        let lines: Vec<String> = parts.iter().map(part_text).collect();
        self.line("key", if lines.is_empty() { "the route alone".to_owned() } else { lines.join("\n") });
    }

    fn no_key(&mut self, error: KeyError) {
        self.refused(Refusal::from(error), error.detail());
    }

    fn calm(&mut self, calm: Option<&Calm>) {
        self.line(
            "else",
            match calm {
                None => "503 with Retry-After when the core fails and nothing is stored".to_owned(),
                Some(calm) if calm.body.is_empty() => {
                    format!("{} when the core fails and nothing is stored", calm.status)
                }
                Some(calm) => format!("{} {} when the core fails and nothing is stored", calm.status, calm.body),
            },
        );
    }
}

fn part_text((name, value): &NamedValue) -> String {
    match value {
        Some(value) => format!("{name} = {value:?}"),
        None => format!("{name} is not in the request"),
    }
}

fn kept(ttl: Duration) -> String {
    if ttl.is_zero() { "not at all".to_owned() } else { duration_to_text(ttl) }
}

fn jitter(jitter: Ratio) -> String {
    if jitter.value() == 0.0 { String::new() } else { format!(", up to {:.0} % less", jitter.value() * 100.0) }
}

/// Refused records that are shown.
const MAX_REFUSALS: usize = 20;
