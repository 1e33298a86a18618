//! `fleet`: a fleet from the command line. Progress goes to standard error, the report to standard output as JSON.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use weir_fleet::{Compression, Fleet, FleetOptions, FleetReport, FleetTls, Identity, Mix, Uploads};

/// A fleet of agents: open loop, keep-alive TLS, latency without coordinated omission.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the agents connect; may be given several times, agents then take turns.
    #[arg(long, default_value = "127.0.0.1:8443")]
    target: Vec<SocketAddr>,
    /// Allow targets off this machine. Point it at nobody's machine but your own.
    #[arg(long)]
    allow_remote: bool,
    /// Speak plain HTTP instead of TLS 1.3.
    #[arg(long)]
    plaintext: bool,
    /// The server's name, for `Host`, SNI and the certificate.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The authorities that may have signed the server's certificate, in PEM; any certificate is taken without.
    #[arg(long)]
    authorities: Option<PathBuf>,
    /// A client certificate chain in PEM, shown by every agent.
    #[arg(long, requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Its key in PEM.
    #[arg(long, requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// Agents, each with one connection.
    #[arg(long, default_value_t = 1000)]
    agents: u32,
    /// Requests a second of all agents together.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Seconds the schedule runs.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Connections opened a second before that.
    #[arg(long, default_value_t = 500.0)]
    handshakes: f64,
    /// Weights of update checks, config fetches, tasking polls and uploads.
    #[arg(long, default_value = "25,25,25,25", value_parser = parse_mix)]
    mix: Mix,
    /// The header that names the agent.
    #[arg(long, default_value = "x-agent-id")]
    agent_header: String,
    /// The header that names the tenant.
    #[arg(long, default_value = "x-tenant-id")]
    tenant_header: String,
    /// Send no identity headers.
    #[arg(long)]
    silent: bool,
    /// Events in one upload.
    #[arg(long, default_value_t = 24)]
    events_per_upload: u32,
    /// The share of events that repeat one of the last minute.
    #[arg(long, default_value_t = 0.7)]
    repeats: f64,
    /// A file of events to draw from, one JSON object a line.
    #[arg(long)]
    events: Option<PathBuf>,
    /// Compress uploads: gzip, zstd or lz4.
    #[arg(long)]
    compress: Option<Compression>,
    /// Do not heed Retry-After.
    #[arg(long)]
    ignore_retry_after: bool,
    /// The seed of every choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Say nothing while it runs.
    #[arg(long)]
    quiet: bool,
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    let weights: Vec<f64> = text
        .split(',')
        .map(|weight| weight.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|_| "numbers are wanted")?;
    let [update, config, tasks, upload] = weights[..] else {
        return Err("four weights are wanted".into());
    };
    Ok(Mix { update, config, tasks, upload })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let fleet = Fleet::start(options(&arguments)?).map_err(|error| error.to_string())?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let report = loop {
        if fleet.is_over() {
            break fleet.finish().await;
        }
        tokio::select! {
            _ = ticks.tick() => if !arguments.quiet { eprintln!("{}", progress(&fleet.snapshot())) },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| error.to_string())?;
                break fleet.stop().await;
            }
        }
    };
    let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| error.to_string())
}

fn progress(report: &FleetReport) -> String {
    if report.started_unix_ms == 0 {
        return format!("connecting: {} of {}", report.connected, report.agents);
    }
    let last = report.series.iter().rev().nth(1).copied().unwrap_or_default();
    format!(
        "{:>4} s  {} req/s, {} ok, {} errors, p50 {:.1} ms, p99 {:.1} ms; {} connected, {} records acknowledged",
        report.elapsed_ms / 1000,
        last.requests,
        last.ok,
        last.errors,
        last.p50_ms,
        last.p99_ms,
        report.connected,
        report.records.acknowledged
    )
}

fn options(arguments: &Arguments) -> Result<FleetOptions, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let client_certificate = match (&arguments.client_certificate, &arguments.client_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    let tls = FleetTls {
        server_name: arguments.host.clone(),
        authorities: arguments.authorities.as_deref().map(read).transpose()?,
        client_certificate,
    };
    let identity = Identity::Headers { agent: arguments.agent_header.clone(), tenant: arguments.tenant_header.clone() };
    Ok(FleetOptions {
        targets: arguments.target.clone(),
        allow_remote: arguments.allow_remote,
        tls: (!arguments.plaintext).then_some(tls),
        host: arguments.host.clone(),
        agents: arguments.agents,
        requests_per_second: arguments.rate,
        duration: Duration::try_from_secs_f64(arguments.seconds).map_err(|error| error.to_string())?,
        handshakes_per_second: arguments.handshakes,
        mix: arguments.mix,
        identity: if arguments.silent { Identity::Silent } else { identity },
        uploads: Uploads {
            events: arguments.events_per_upload,
            repeats: arguments.repeats,
            with_eid: true,
            file: arguments.events.clone(),
            compression: arguments.compress,
        },
        obey_retry_after: !arguments.ignore_retry_after,
        seed: arguments.seed,
        ..FleetOptions::default()
    })
}
