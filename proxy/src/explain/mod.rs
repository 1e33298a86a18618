//! `weir explain`: what would be done with a request, told from the configuration alone. Nothing is sent, opened or resolved.
//!
//! The request is read as strictly as a live one and takes the same path: route, identity, key. What the cache holds at the moment
//! and how the core feels are not known here.

mod report;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use weir_config::{Config, Listener, Method};
use weir_logic::identity::Evidence;
use weir_logic::request::Parameters;
use weir_logic::route::{Found, RouteTable};
use weir_logic::strict::target::Target;
use weir_logic::{Call, CertificateFields, Identity, Millis, Refusal, RequestView};

use crate::exit::{Code, Failure};
use report::Report;

/// A request to explain.
#[derive(Debug)]
pub struct Question {
    /// The configuration.
    pub config: Config,
    /// The method.
    pub method: String,
    /// A path with its query, or a whole URL.
    pub url: String,
    /// Headers, each `name:value`.
    pub headers: Vec<String>,
    /// The body; empty when there is none.
    pub body: Vec<u8>,
    /// The fields of the client certificate, such as `cn=agent-7,o=tenant-1`.
    pub certificate: Option<String>,
    /// The name of the listener; the first one when it is not named.
    pub listener: Option<String>,
}

/// What would be done, as text for people.
///
/// # Errors
///
/// When the question itself is wrong: a header without a colon, an unknown listener. A request that the node would refuse is no
/// error but an answer.
pub fn explain(question: &Question) -> Result<String, Failure> {
    let listener = listener(question)?;
    let certificate = question.certificate.as_deref().map(certificate_fields).transpose()?;
    let mut headers = header_map(&question.headers)?;
    let (target, authority) = target_and_host(&question.url, &mut headers)?;

    let mut report = Report::default();
    report.line("request", format!("{} {target}", question.method));
    report.line("listener", listener_text(listener));
    let Some(method) = method(&question.method) else {
        report.refused(Refusal::WrongMethod, "no route can name this method");
        return Ok(report.text());
    };
    let target = match Target::parse(target.as_bytes(), authority.as_bytes()) {
        Ok(target) => target,
        Err(fault) => {
            report.refused(fault.refusal, fault.detail);
            return Ok(report.text());
        }
    };
    let view = RequestView {
        method,
        path: target.path,
        query: target.query,
        host: target.host,
        headers: &headers,
        body: &question.body,
    };
    route(&mut report, question, &view, &Asker { listener, certificate: certificate.as_ref() });
    Ok(report.text())
}

/// What an identity may come from besides the request.
struct Asker<'a> {
    listener: &'a Listener,
    certificate: Option<&'a CertificateFields>,
}

fn route(report: &mut Report, question: &Question, view: &RequestView<'_>, asker: &Asker<'_>) {
    let config = &question.config;
    let table = RouteTable::new(&config.routes);
    let (route, parameters) = match table.find(view.method, view.host, view.path) {
        Found::Route { route, parameters, .. } => (route, parameters),
        Found::WrongMethod { .. } => {
            return report.refused(Refusal::WrongMethod, "routes match the path, none the method");
        }
        Found::Unknown => return report.refused(Refusal::UnknownRoute, "no route matches"),
    };
    let identity = identity(config, view, &parameters, asker);
    report.route(config, route, &identity);
    report.limits(config, route, &identity);
    let call = Call { request: *view, route, parameters: &parameters, identity: &identity, now: Millis::default() };
    report.action(config, &call);
}

fn identity(config: &Config, view: &RequestView<'_>, parameters: &Parameters<'_>, asker: &Asker<'_>) -> Identity {
    let trusted_headers = asker.listener.trusted_headers.then_some(view.headers);
    Identity::read(&config.identity, &Evidence { certificate: asker.certificate, trusted_headers, parameters })
}

fn listener(question: &Question) -> Result<&Listener, Failure> {
    let listeners = &question.config.listeners;
    let found = match &question.listener {
        None => listeners.first(),
        Some(name) => listeners.iter().find(|listener| listener.name == *name),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        wrong(format!("no such listener; there are {}", names.join(", ")))
    })
}

fn listener_text(listener: &Listener) -> String {
    let tls = if listener.tls.is_some() { "TLS" } else { "plaintext" };
    let trust = if listener.trusted_headers { ", identity headers believed" } else { "" };
    format!("{} ({tls}{trust})", listener.name)
}

fn header_map(lines: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err(wrong(format!("header `{line}`: expected NAME:VALUE")));
        };
        let (Ok(name), Ok(value)) = (name.trim().parse::<HeaderName>(), HeaderValue::from_str(value.trim())) else {
            return Err(wrong(format!("header `{line}`: forbidden characters")));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// The target as it would stand in the request line, and the authority. A URL's authority fills in for a missing `Host`.
fn target_and_host(url: &str, headers: &mut HeaderMap) -> Result<(String, String), Failure> {
    let (target, authority) = match url.split_once("://") {
        None => (url.to_owned(), "localhost".to_owned()),
        Some((_, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let slash = if path.starts_with('/') { "" } else { "/" };
            (format!("{slash}{path}"), authority.to_owned())
        }
    };
    if let Some(host) = headers.get(http::header::HOST) {
        let host = host.to_str().map_err(|_| wrong("the host header is not text"))?;
        return Ok((target, host.to_owned()));
    }
    let value = HeaderValue::from_str(&authority).map_err(|_| wrong("the URL's host has forbidden characters"))?;
    headers.insert(http::header::HOST, value);
    Ok((target, authority))
}

fn certificate_fields(text: &str) -> Result<CertificateFields, Failure> {
    let mut fields = CertificateFields::default();
    for part in text.split(',') {
        let Some((field, value)) = part.split_once('=') else {
            return Err(wrong(format!("certificate `{part}`: expected FIELD=VALUE")));
        };
        let value = Some(value.trim().to_owned());
        match field.trim().to_ascii_lowercase().as_str() {
            "cn" => fields.common_name = value,
            "o" => fields.organization = value,
            "ou" => fields.organizational_unit = value,
            "san" => fields.alternative_name = value,
            other => return Err(wrong(format!("certificate field `{other}`: expected cn, o, ou or san"))),
        }
    }
    Ok(fields)
}

fn method(text: &str) -> Option<Method> {
    Some(match text {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => return None,
    })
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, message)
}

#[cfg(test)]
mod tests;
