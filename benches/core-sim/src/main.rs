//! `core-sim`: a core in a process of its own, with a port to read its counts and order it about.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde_json::json;
use weir_core_sim::{Admin, Behaviour, CoreOptions, CoreSim, CoreTls};

/// A core that speaks every contract, counts everything and fails on command.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9700")]
    address: SocketAddr,
    /// Where to be read and ordered about: GET /counters, POST /behaviour, /task, /key-fault, /bump. No identity is asked.
    #[arg(long, default_value = "127.0.0.1:9701")]
    admin: SocketAddr,
    /// A certificate chain in PEM, leaf first; plaintext without.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// The behaviour at the start, as JSON or a bare word: up, down, hang, reset, garbage, {"slow":{"millis":200}},
    /// {"status":{"code":429,"retry_after":5}}.
    #[arg(long, default_value = "up", value_parser = parse_behaviour)]
    behaviour: Behaviour,
    /// A request header that may name the tenant of GET /v1/config; may be given several times.
    #[arg(long, default_values = ["weir-tenant", "x-tenant-id"])]
    tenant_header: Vec<String>,
    /// The field of a record that names it uniquely; counts how often each is seen.
    #[arg(long)]
    track_field: Option<String>,
    /// Bytes of a body as sent, at most.
    #[arg(long, default_value_t = 64 << 20)]
    max_body_bytes: usize,
}

fn parse_behaviour(text: &str) -> Result<Behaviour, String> {
    let bare = serde_json::Value::from(text).to_string();
    serde_json::from_str(&bare).or_else(|_| serde_json::from_str(text)).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("core-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let core = CoreSim::start(options(&arguments)?).await.map_err(|error| format!("{}: {error}", arguments.address))?;
    let core = Arc::new(core);
    let admin = Admin::bind(arguments.admin, Arc::clone(&core))
        .await
        .map_err(|error| format!("{}: {error}", arguments.admin))?;
    let at = admin.address().map_err(|error| error.to_string())?;
    let started = json!({"address": core.address(), "url": core.url(), "admin": at});
    // Nobody may be reading; the core serves all the same.
    writeln!(std::io::stdout(), "{started}").ok();
    tokio::select! {
        served = admin.serve() => served.map_err(|error| error.to_string()),
        stopped = tokio::signal::ctrl_c() => stopped.map_err(|error| error.to_string()),
    }
}

fn options(arguments: &Arguments) -> Result<CoreOptions, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let tls = match (&arguments.certificate, &arguments.key) {
        (Some(certificate), Some(key)) => Some(CoreTls { certificates: read(certificate)?, key: read(key)? }),
        _ => None,
    };
    Ok(CoreOptions {
        address: arguments.address,
        tls,
        behaviour: arguments.behaviour.clone(),
        tenant_headers: arguments.tenant_header.iter().map(|name| name.to_ascii_lowercase()).collect(),
        track_field: arguments.track_field.clone(),
        max_body_bytes: arguments.max_body_bytes,
        ..CoreOptions::default()
    })
}
