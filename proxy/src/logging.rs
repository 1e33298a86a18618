//! Log lines to standard error: rare, with fields, bounded for each cause.
//!
//! `WEIR_LOG` says what is logged, in the syntax of tracing's `EnvFilter`; without it, `info` and above. Lines that pingora writes
//! through the `log` crate come out here too, its per-request lines excepted: requests are counted in metrics, not logged.

mod limit;

use prometheus::IntCounter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use weir_config::LogFormat;

use crate::clock::Clock;
use limit::Limit;

/// Starts logging. `suppressed` counts the lines that the limit kept back. Does nothing when logging was started before.
pub fn start(format: LogFormat, clock: Clock, suppressed: IntCounter) {
    let limit = Limit::new(clock, suppressed);
    let (filter, complaint) = filter();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = match format {
        LogFormat::Text => lines.with_filter(limit).boxed(),
        LogFormat::Json => lines.json().with_filter(limit).boxed(),
    };
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    if let Some(complaint) = complaint {
        tracing::warn!(%complaint, "WEIR_LOG is not understood; logging info and above");
    }
}

fn filter() -> (EnvFilter, Option<String>) {
    let quiet = |own: &str| format!("{QUIET},{own}");
    let Ok(wanted) = std::env::var(VARIABLE) else {
        return (EnvFilter::new(quiet("info")), None);
    };
    match EnvFilter::builder().parse(quiet(&wanted)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(quiet("info")), Some(error.to_string())),
    }
}

const VARIABLE: &str = "WEIR_LOG";

/// pingora logs each failed request and each failed handshake at error level, its start and stop at info. Its connectors call it an
/// error when two tasks reach for one pooled connection and the second makes a new one.
const QUIET: &str = "pingora_proxy=off,pingora_core=error,pingora_core::connectors=off,pingora_load_balancing=error,pingora_pool=error,h2=error,hyper=error";
