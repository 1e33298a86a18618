//! What a reload says: which keys differ, and which of them wait for a restart.

use std::path::Path;

use weir_config::{Change, Config, MemoryEnvironment, changes, parse};

fn config(text: &str) -> Config {
    let environment = MemoryEnvironment::new().file("weir.toml", text);
    parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{problems}")).config
}

const OLD: &str = include_str!("sketch.toml");

fn changed(from: &str, to: &str) -> Vec<Change> {
    assert!(OLD.contains(from));
    changes(&config(OLD), &config(&OLD.replacen(from, to, 1)))
}

fn change(key: &str, old: &str, new: &str) -> Change {
    Change { key: key.to_owned(), old: Some(old.to_owned()), new: Some(new.to_owned()), needs_restart: false }
}

#[test]
fn the_same_configuration_has_no_changes() {
    assert_eq!(changes(&config(OLD), &config(OLD)), []);
    let reordered = changed(
        "region = \"us-east-1\"\ndata_dir = \"/var/lib/weir\"",
        "data_dir = \"/var/lib/weir\"\nregion = \"us-east-1\"",
    );
    assert_eq!(reordered, []);
}

#[test]
fn a_ttl_applies_at_once() {
    let ttl = changed("ttl = { ok = \"60s\"", "ttl = { ok = \"5m\"");
    assert_eq!(ttl, [change("route.update-manifest.ttl.ok", "\"1m\"", "\"5m\"")]);
    let window = changed("window = \"25ms\"", "window = \"50ms\"");
    assert_eq!(window, [change("route.tasks.lookup.window", "\"25ms\"", "\"50ms\"")]);
    let rate = changed("max_requests_per_second = 500", "max_requests_per_second = 50");
    assert_eq!(rate, [change("core.core.max_requests_per_second", "500", "50")]);
}

#[test]
fn the_admin_address_waits_for_a_restart() {
    let address = changed("127.0.0.1:9600", "127.0.0.1:9601");
    let expected = change("admin.address", "\"127.0.0.1:9600\"", "\"127.0.0.1:9601\"");
    assert_eq!(address, [Change { needs_restart: true, ..expected }]);
}

#[test]
fn a_listener_that_moves_is_one_gone_and_one_come() {
    let moved = changed("0.0.0.0:8443", "0.0.0.0:9443");
    let keys: Vec<(&str, bool, bool)> =
        moved.iter().map(|change| (change.key.as_str(), change.old.is_some(), change.needs_restart)).collect();
    assert_eq!(keys, [("listener.\"0.0.0.0:8443\"", true, true), ("listener.\"0.0.0.0:9443\"", false, true)]);
}

#[test]
fn a_route_that_is_gone_and_one_that_came_are_named() {
    let renamed = changed("name = \"tasks\"", "name = \"orders\"");
    let keys: Vec<(&str, bool, bool)> =
        renamed.iter().map(|change| (change.key.as_str(), change.old.is_some(), change.needs_restart)).collect();
    assert_eq!(keys, [("route.tasks", true, false), ("route.orders", false, false)]);
}

#[test]
fn a_switch_turned_on_is_a_change() {
    let on = changed("[admin]", "[presence]\n[admin]");
    assert_eq!((on[0].key.as_str(), on[0].old.as_deref()), ("presence", Some("false")));
}
