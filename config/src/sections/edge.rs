//! `[edge]`, `[admin]`, `[presence]` and `[shutdown]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::form::Form;
use crate::key::Key;
use crate::section::{section, table_settings};
use crate::setting::choice_settings;
use crate::{Admin, ByteSize, CoreId, Edge, LogFormat, Presence, Shutdown};

section! { Edge, "[edge]", "What this node is.", |_, _| {}, {
    region: String = Key::default("local",
        "The region that the node stands in. Part of its presence reports.").form(Form::EdgeName).restart();
    name: Option<String> = Key::optional("edge-1",
        "The node's name: unique among all nodes of all regions and the same after every restart, because it is \
         part of every batch id by which the core tells repeats. Left out, the node makes one on its first start \
         and keeps it in data_dir.")
        .form(Form::EdgeName).restart();
    data_dir: PathBuf = Key::default("/var/lib/weir",
        "The directory of journals, outboxes, packages, releases on their way and the node's name. It needs room for \
         max_journal_bytes and max_outbox_bytes of every stream and for limits.packages.max_bytes and \
         limits.rollouts.max_bytes. One node only may use it.").restart();
    threads: Option<usize> = Key::optional("8",
        "Worker threads for agents' requests. Left out, one for each processor.").between("1", "1024").restart();
    log_format: LogFormat = Key::default("text",
        "How log lines are written to standard error.").restart();
}}

section! { Admin, "[admin]", "Where operators connect: metrics, health, status, reload.", |_, _| {}, {
    address: SocketAddr = Key::default("127.0.0.1:9600",
        "The address of the admin listener. It speaks plain HTTP without authentication: keep it on loopback or on \
         a network that only operators reach.").restart();
    max_trace_time: Duration = Key::default("1h",
        "The longest time for which `weir trace` may record.").between("1s", "1d");
    max_trace_bytes: ByteSize = Key::default("256 MiB",
        "Bytes of one trace, at most; it ends there. A request in it takes some 300 bytes.").between("1 MiB", "64 GiB");
    max_trace_waiting: ByteSize = Key::default("8 MiB",
        "Bytes of a trace that wait in memory for whoever reads it, at most; a trace whose reader is slower ends.")
        .between("64 KiB", "1 GiB");
}}

section! { Presence, "[presence]",
    "Who is alive, reported to the core because the edge answers the polls that used to say so. Without this table, \
     or with `presence = false`, nothing is reported.", |_, _| {}, {
    interval: Duration = Key::default("60s",
        "The time between two reports.").between("1s", "1h");
    max_agents: usize = Key::default("2000000",
        "Agents remembered between two reports, at most; past it a report leaves early. Bounds the memory that \
         presence takes.")
        .between("1000", "100000000");
    path: String = Key::default("/v1/presence",
        "The path at the core that takes reports.").form(Form::RequestPath);
    version_header: String = Key::default("user-agent",
        "The header in which an agent names its version.").form(Form::Header);
    core: CoreId = Key::computed("core",
        "The core that takes reports. Left out, the first one.");
}}

section! { Shutdown, "[shutdown]", "How the node stops on SIGTERM.", |_, _| {}, {
    notice: Duration = Key::default("0s",
        "The time before the drain in which the node says at /readyz that it is not ready and goes on as before, for a load \
         balancer that finds that out by asking: its interval times its threshold.").between("0s", "1h");
    drain: Duration = Key::default("30s",
        "The time over which kept-alive connections are closed, spread evenly, each with an answer if a request comes within a \
         fifth of that time, so that agents do not come back all at once. `0s` closes them as soon as they are idle.").between("0s", "1h");
    timeout: Duration = Key::default("30s",
        "The most time that requests in flight and the last flush may take after the drain.").between("0s", "1h");
}}

table_settings!(Edge, Admin, Shutdown);

impl crate::section::Setting for Presence {
    const KIND: crate::key::Kind = crate::key::Kind::Table(<Self as crate::section::Section>::DESCRIPTION);
    const OFF: bool = true;

    fn read(node: &crate::tree::Node, key: &Key, context: &mut crate::section::Context) -> Option<Self> {
        crate::section::read_table(node, key, context)
    }

    fn write(&self, names: &crate::section::Names) -> Option<toml::Value> {
        Some(crate::section::write_table(self, names))
    }
}

choice_settings! {
    pub LogFormat {
        "text" => Text: "lines for people";
        "json" => Json: "one JSON object a line";
    }
}
