//! What is measured: the floor, and the node under several configurations.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weir_config::{MemoryEnvironment, parse};

use crate::books::SAME;
use crate::text::fill;

/// How agents reach what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// HTTP/1.1.
    Plain,
    /// The same inside TLS 1.3.
    Tls,
}

/// A configuration of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) durability: &'static str,
    pub(super) encoding: &'static str,
    pub(super) compression: &'static str,
}

impl Variant {
    const fn new(durability: &'static str, encoding: &'static str, compression: &'static str) -> Self {
        Self { durability, encoding, compression }
    }

    /// The one that the others are compared with, as a node is by default.
    pub(super) const USUAL: Self = Self::new("fsync", "rows", "lz4");

    /// Those whose speed is measured.
    pub(super) const SPEED: [Self; 5] = [
        Self::USUAL,
        Self::new("fsync", "rows", "zstd"),
        Self::new("os", "rows", "lz4"),
        Self::new("memory", "rows", "lz4"),
        Self::new("fsync", "shapes", "lz4"),
    ];

    /// Those whose bytes are measured.
    pub(super) const BYTES: [Self; 4] = [
        Self::USUAL,
        Self::new("fsync", "rows", "zstd"),
        Self::new("fsync", "shapes", "lz4"),
        Self::new("fsync", "shapes", "zstd"),
    ];

    /// Its name in figures.
    pub(super) fn name(&self) -> String {
        format!("{} {} {}", self.durability, self.encoding, self.compression)
    }

    /// Whether this node can be configured so.
    pub(super) fn is_known(&self) -> bool {
        let text = render(self, Transport::Plain, ([127, 0, 0, 1], 9000).into(), WINDOW);
        parse(&MemoryEnvironment::new().file("weir.toml", &text), Path::new("weir.toml")).is_ok()
    }
}

/// The merge window of the standard mix.
pub(super) const WINDOW: &str = "60s";

const TEMPLATE: &str = include_str!("weir.toml");

/// The configuration of a node before the core at `core`.
pub(super) fn render(variant: &Variant, transport: Transport, core: SocketAddr, window: &str) -> String {
    let tls = match transport {
        Transport::Plain => "",
        Transport::Tls => "tls = { certificate = \"server.pem\", key = \"server.key\", min_version = \"1.3\" }",
    };
    // Named only where it is not the default, for nodes that know one encoding alone.
    let encoding = match variant.encoding {
        "rows" => String::new(),
        other => format!(", encoding = \"{other}\""),
    };
    let values = [
        ("tls", tls.to_owned()),
        ("core", core.to_string()),
        ("same", SAME.map(|field| format!("{field:?}")).join(", ")),
        ("window", window.to_owned()),
        ("durability", variant.durability.to_owned()),
        ("compression", variant.compression.to_owned()),
        ("encoding", encoding),
    ];
    fill(TEMPLATE, &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_configuration_is_a_right_one_on_both_transports() {
        assert!(Variant::USUAL.is_known());
        for transport in [Transport::Plain, Transport::Tls] {
            let text = render(&Variant::USUAL, transport, ([127, 0, 0, 1], 9000).into(), WINDOW);
            assert!(!text.contains("{{"), "{text}");
        }
        assert!(!Variant::new("fsync", "rows", "brotli").is_known());
    }
}
