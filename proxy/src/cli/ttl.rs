//! `weir ttl`: what other TTLs would have meant on the running node's traffic, as tables for people.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::admin;
use super::written::{percent, time};
use crate::exit::{Code, Failure};

/// Asks the node and lays out what it says of one route, or of all.
///
/// # Errors
///
/// When the node does not run, keeps no answers on such a route, or watches none.
pub(super) fn ttl(address: SocketAddr, route: Option<&str>) -> Result<String, Failure> {
    let answer = admin::ask(address, "GET", "/ttl", "", PATIENCE)?;
    if answer.status != 200 {
        return Err(Failure::new(Code::Unavailable, answer.body.trim()));
    }
    let said: Value = serde_json::from_str(&answer.body)
        .map_err(|error| Failure::new(Code::Unavailable, format!("{address}: {error}")))?;
    let known: Vec<&Value> = said["routes"].as_array().into_iter().flatten().collect();
    if said["what_if_keys"] == 0 {
        return Err(Failure::new(Code::Unavailable, "limits.cache.what_if_keys is 0: nothing is watched"));
    }
    let wanted: Vec<_> = known.iter().filter(|about| route.is_none_or(|name| about["route"] == name)).collect();
    if wanted.is_empty() {
        let names: Vec<_> = known.iter().filter_map(|about| about["route"].as_str()).collect();
        let problem = format!("no route of that name keeps answers; there are: {}", names.join(", "));
        return Err(Failure::new(Code::Usage, problem));
    }
    Ok(wanted.iter().map(|about| table(about)).collect::<Vec<_>>().join("\n"))
}

fn table(about: &Value) -> String {
    let of = |name: &str| about[name].as_f64().unwrap_or_default();
    let mut text = format!(
        "{}: {:.0} requests in {}, {:.2} /s; {:.0} keys watched, {} of all\n",
        about["route"].as_str().unwrap_or_default(),
        of("requests"),
        time(of("covered_seconds")),
        of("requests_per_second"),
        of("watched_keys"),
        percent(of("watched_part")),
    );
    if of("requests") < 1.0 {
        return text + "  no requests yet\n";
    }
    let asked = if about["action"] == "lookup" { "keys asked/s" } else { "core req/s" };
    put(&mut text, ["", "TTL", asked, "hit ratio", "stale", "mean age", "p99 age"].map(str::to_owned));
    for candidate in about["candidates"].as_array().into_iter().flatten() {
        let of = |name: &str| candidate[name].as_f64().unwrap_or_default();
        let (short, long) = (time(of("ttl_seconds")), time(of("longest_ttl_seconds")));
        let ttl = if short == long { short } else { format!("{short}-{long}") };
        let row = [
            multiple(of("multiplier")),
            ttl,
            format!("{:.3}", of("core_requests_per_second")),
            percent(of("hit_ratio")),
            percent(of("stale_ratio")),
            time(of("mean_age_seconds")),
            time(of("p99_age_seconds")),
        ];
        put(&mut text, row);
    }
    text
}

fn put(text: &mut String, [multiple, ttl, asked, hits, stale, mean, p99]: [String; 7]) {
    let row = format!("  {multiple:>6} {ttl:>13} {asked:>13} {hits:>10} {stale:>8} {mean:>9} {p99:>9}");
    text.push_str(row.trim_end());
    text.push('\n');
}

fn multiple(multiplier: f64) -> String {
    match multiplier {
        below if below < 1.0 => format!("1/{:.0}", 1.0 / below),
        1.0 => "today".to_owned(),
        above => format!("x{above:.0}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_a_table_of_candidates() {
        let candidate = |multiplier: f64, longest: f64| {
            json!({
                "multiplier": multiplier, "ttl_seconds": 60.0 * multiplier, "longest_ttl_seconds": longest * multiplier,
                "core_requests_per_second": 1.5, "hit_ratio": 0.9714, "stale_ratio": 0.0,
                "mean_age_seconds": 27.1, "p99_age_seconds": 61.0
            })
        };
        let about = json!({
            "route": "updates", "action": "cache", "covered_seconds": 3400, "requests": 17000.0, "requests_per_second": 5.0,
            "watched_keys": 50, "watched_part": 1.0, "candidates": [candidate(0.25, 60.0), candidate(1.0, 60.0), candidate(8.0, 600.0)]
        });
        let expected = "\
updates: 17000 requests in 56.7m, 5.00 /s; 50 keys watched, 100.0% of all
                   TTL    core req/s  hit ratio    stale  mean age   p99 age
     1/4           15s         1.500      97.1%     0.0%       27s       61s
   today           60s         1.500      97.1%     0.0%       27s       61s
      x8      480s-80m         1.500      97.1%     0.0%       27s       61s
";
        assert_eq!(table(&about), expected);
    }
}
