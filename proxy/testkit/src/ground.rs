//! The ground that most nodes of tests stand on.

use std::fmt::Display;

/// An address for a core behind which nobody listens.
pub const NOBODY: &str = "127.0.0.1:9";

/// The beginning of a configuration: a node named `edge-1` with its data in `data` and a log that [`crate::Node`] can read, a
/// plaintext listener `agents` that believes `x-agent-id` and `x-tenant-id`, an admin listener, both on ports that the system
/// chooses, and the core at this address. It ends inside `[core]`: more keys of the core come first in what follows.
pub fn ground(core: impl Display) -> String {
    ground_with_admin(core, "127.0.0.1:0")
}

/// The same with the admin listener at this address: for a file from which a command reads where a running node's is.
pub fn ground_with_admin(core: impl Display, admin: impl Display) -> String {
    format!(
        r#"
[edge]
name = "edge-1"
data_dir = "data"
log_format = "json"

[[listener]]
name = "agents"
address = "127.0.0.1:0"
trusted_headers = true

[admin]
address = "{admin}"

[identity]
agent = "header.x-agent-id"
tenant = "header.x-tenant-id"

[core]
peers = ["{core}"]
"#
    )
}
