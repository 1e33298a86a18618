//! What the core knows: update manifests, tenants' configs, agents' tasks, and their versions.
//!
//! Plain state: the same question gets the same bytes until somebody changes the version.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::options::CoreOptions;

/// What goes wrong with one key of a bulk lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFault {
    /// The key is answered with this status and no body.
    Status(u16),
    /// The key is answered 503 with `retry_after` seconds.
    RetryAfter(u64),
    /// The answer does not mention the key.
    Missing,
}

/// One answer: a version and the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) etag: String,
    /// A JSON object.
    pub(crate) body: String,
}

/// Everything that can be asked for.
#[derive(Debug)]
pub(crate) struct Content {
    manifest_version: u64,
    manifest_changed: SystemTime,
    config_version: u64,
    config_of: HashMap<String, u64>,
    tasks: HashMap<String, Option<Value>>,
    faults: HashMap<String, KeyFault>,
    agents_per_task: u64,
    /// Members of a JSON object, without the braces.
    manifest_filler: String,
    config_filler: String,
}

impl Content {
    pub(crate) fn new(options: &CoreOptions) -> Self {
        Self {
            manifest_version: 1,
            manifest_changed: SystemTime::now(),
            config_version: 1,
            config_of: HashMap::new(),
            tasks: HashMap::new(),
            faults: HashMap::new(),
            agents_per_task: options.agents_per_task,
            manifest_filler: filler("notes", options.manifest_bytes),
            config_filler: filler("exclusions", options.config_bytes),
        }
    }

    /// The manifest of one channel; `query` is the request's, for it names the platform.
    pub(crate) fn manifest(&self, channel: &str, query: &str) -> Document {
        let version = self.manifest_version;
        let name = xxh3_64(format!("{channel}?{query}").as_bytes());
        let payload = format!("{name:016x}{:016x}", name.rotate_left(17).wrapping_mul(version));
        let body = format!(
            r#"{{"channel":{},"target":{},"version":"7.{version}.0","sha256":"{payload}{payload}","size":{},{}}}"#,
            quoted(channel),
            quoted(query),
            40_000_000 + name % 10_000_000,
            self.manifest_filler
        );
        Document { etag: format!("\"m{version}-{name:016x}\""), body }
    }

    pub(crate) fn manifest_changed(&self) -> SystemTime {
        self.manifest_changed
    }

    pub(crate) fn config(&self, tenant: &str) -> Document {
        let version = self.config_version + self.config_of.get(tenant).copied().unwrap_or(0);
        let name = xxh3_64(tenant.as_bytes());
        let body = format!(r#"{{"tenant":{},"version":{version},{}}}"#, quoted(tenant), self.config_filler);
        Document { etag: format!("\"c{version}-{name:016x}\""), body }
    }

    /// The agent's task, if it has one.
    pub(crate) fn task(&self, agent: &str) -> Option<Document> {
        let name = xxh3_64(agent.as_bytes());
        let body = match self.tasks.get(agent) {
            Some(set) => set.as_ref()?.to_string(),
            None if self.agents_per_task > 0 && name.is_multiple_of(self.agents_per_task) => {
                format!(r#"{{"agent":{},"tasks":[{{"id":"{name:016x}","run":"collect-triage"}}]}}"#, quoted(agent))
            }
            None => return None,
        };
        Some(Document { etag: format!("\"t{:016x}\"", xxh3_64(body.as_bytes())), body })
    }

    pub(crate) fn fault_of<'a>(&self, mut values: impl Iterator<Item = &'a str>) -> Option<KeyFault> {
        if self.faults.is_empty() {
            return None;
        }
        values.find_map(|value| self.faults.get(value).copied())
    }

    pub(crate) fn bump_manifest(&mut self) {
        self.manifest_version += 1;
        self.manifest_changed = SystemTime::now();
    }

    pub(crate) fn bump_config(&mut self, tenant: Option<&str>) {
        match tenant {
            Some(tenant) => *self.config_of.entry(tenant.to_owned()).or_default() += 1,
            None => self.config_version += 1,
        }
    }

    pub(crate) fn set_task(&mut self, agent: &str, task: Option<Value>) {
        self.tasks.insert(agent.to_owned(), task);
    }

    pub(crate) fn set_fault(&mut self, value: &str, fault: Option<KeyFault>) {
        match fault {
            Some(fault) => self.faults.insert(value.to_owned(), fault),
            None => self.faults.remove(value),
        };
    }
}

/// A JSON member whose value is a list of strings, about `bytes` long.
fn filler(name: &str, bytes: usize) -> String {
    let mut entries = Vec::new();
    let mut length = 200;
    while length < bytes {
        let at = entries.len() as u64;
        let token = xxh3_64(&at.to_le_bytes());
        let entry = format!(r#""C:\\Program Files\\Vendor {}\\{token:x}\\*.dat""#, at % 7);
        length += entry.len() + 1;
        entries.push(entry);
    }
    format!(r#""{name}":[{}]"#, entries.join(","))
}

fn quoted(text: &str) -> Value {
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_json_of_about_the_size_asked_for() {
        let content = Content::new(&CoreOptions::default());
        let manifest = content.manifest("stable", "platform=win\"dows&arch=x64").body;
        let config = content.config("t-1").body;
        for (body, size) in [(&manifest, 1024), (&config, 2048)] {
            serde_json::from_str::<Value>(body).unwrap();
            assert!(body.len().abs_diff(size) < 150, "{} bytes", body.len());
        }
    }

    #[test]
    fn a_new_version_changes_the_etag_of_those_concerned_only() {
        let mut content = Content::new(&CoreOptions::default());
        let (one, other) = (content.config("t-1"), content.config("t-2"));
        content.bump_config(Some("t-1"));
        assert_ne!(content.config("t-1").etag, one.etag);
        assert_eq!(content.config("t-2"), other);
    }

    #[test]
    fn about_one_agent_in_a_thousand_has_a_task() {
        let mut content = Content::new(&CoreOptions::default());
        let with_task = (0..100_000).filter(|agent| content.task(&format!("agent-{agent:06}")).is_some()).count();
        assert!((60..140).contains(&with_task), "{with_task}");
        content.set_task("a", Some(serde_json::json!({"run": "isolate"})));
        assert_eq!(content.task("a").unwrap().body, r#"{"run":"isolate"}"#);
        content.set_task("a", None);
        assert_eq!(content.task("a"), None);
    }
}
