//! `weir purge`: has the running node take answers out of use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::admin;
use super::arguments::{PurgeArguments, PurgeTarget};
use crate::exit::{Code, Failure};

/// Sends the order and gives what the node has done, as a line for people.
///
/// # Errors
///
/// When the node does not run, or refuses the order.
pub(super) fn purge(address: SocketAddr, arguments: &PurgeArguments) -> Result<String, Failure> {
    let order = order(arguments)?;
    let answer = admin::ask(address, "POST", "/purge", &order.to_string(), PATIENCE)?;
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match answer.status {
        200 => Ok(told(&said)),
        status => {
            let code = if status == 400 { Code::Usage } else { Code::Unavailable };
            let problem = said["error"].as_str().unwrap_or(answer.body.trim());
            Err(Failure::new(code, problem))
        }
    }
}

fn order(arguments: &PurgeArguments) -> Result<Value, Failure> {
    let mut order = match &arguments.target {
        PurgeTarget::All => json!({ "all": true }),
        PurgeTarget::Tag { name } => json!({ "tag": name }),
        PurgeTarget::Tenant { name } => json!({ "tenant": name }),
        PurgeTarget::Route { name } => json!({ "route": name }),
        PurgeTarget::Prefix { path } => json!({ "prefix": path }),
        PurgeTarget::Request { url, method, headers, tenant, agent, body } => json!({ "request": {
            "method": method,
            "url": url,
            "tenant": tenant,
            "agent": agent,
            "headers": named(headers)?,
            "body": body,
        } }),
    };
    order["soft"] = arguments.soft.into();
    Ok(order)
}

fn named(headers: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let wrong = |line: &String| Failure::new(Code::Usage, format!("header `{line}`: expected NAME:VALUE"));
    headers.iter().map(|line| pair(line).ok_or_else(|| wrong(line))).collect()
}

fn told(said: &Value) -> String {
    let kind = said["kind"].as_str().unwrap_or_default();
    let what = if said["soft"] == true { "stale from now on" } else { "out of use" };
    let answers = match said["answers"].as_u64() {
        Some(count) => format!("{count} answers are"),
        None if kind == "request" => "the answer is".to_owned(),
        None => "all answers that it means are".to_owned(),
    };
    format!("{answers} {what}, those on their way included (purge {}, by {kind})\n", said["purge"])
}

const PATIENCE: Duration = Duration::from_secs(10);
