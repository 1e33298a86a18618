//! The top of the file.

use crate::diagnostic::At;
use crate::key::{Absent, Description, Key};
use crate::section::{Context, Names, ROOT, Reader, Setting, Writer};
use crate::tree::{Node, Table, Value};
use crate::{Admin, Config, Core, Edge, Identity, Limits, Listener, Presence, Route, Shutdown, Stream};

/// The top of the file.
pub(crate) const ROOT_DESCRIPTION: Description =
    Description { title: ROOT, doc: "The configuration of a Weir node.", keys: KEYS, variants: None };

const KEYS: &[Key] = &[INCLUDE, EDGE, LISTENER, ADMIN, CORE, IDENTITY, LIMITS, PRESENCE, SHUTDOWN, STREAM, ROUTE];

const INCLUDE: Key = Key::optional(
    "[\"region.toml\"]",
    "Files that are read as if they stood here, relative to this one. They may add listeners, cores, routes, \
     streams and tables; a key that is set twice is refused. Up to 8 deep.",
)
.named::<Vec<String>>("include");
const EDGE: Key = Key::table("What this node is.").named::<Edge>("edge");
const LISTENER: Key =
    Key::required("", "Where agents connect; at least one.").filled().restart().named::<Vec<Listener>>("listener");
const ADMIN: Key = Key::table("Where operators connect.").named::<Admin>("admin");
const CORE: Key = Key::required("", "What stands behind the node; at least one.").filled().named::<Vec<Core>>("core");
const IDENTITY: Key = Key::table("Where an agent's and a tenant's names come from.").named::<Identity>("identity");
const LIMITS: Key = Key::table("Bounds that hold for the node as a whole.").named::<Limits>("limits");
const PRESENCE: Key = Key::optional("{}", "Who is alive, reported to the core.").named::<Option<Presence>>("presence");
const SHUTDOWN: Key = Key::table("How the node stops.").named::<Shutdown>("shutdown");
const STREAM: Key = Key::tables("The kinds of record that agents upload.").named::<Vec<Stream>>("stream");
const ROUTE: Key = Key::tables("What to do with which request.").named::<Vec<Route>>("route");

/// What could be read. Lists hold what was right in them, each with the place of its table.
pub(crate) struct Read {
    /// The whole tree, for the places of things.
    pub(crate) root: Node,
    pub(crate) edge: Option<Edge>,
    pub(crate) admin: Option<Admin>,
    pub(crate) identity: Option<Identity>,
    pub(crate) limits: Option<Limits>,
    pub(crate) presence: Option<Option<Presence>>,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) listeners: Vec<(Listener, Node)>,
    pub(crate) cores: Vec<(Core, Node)>,
    pub(crate) streams: Vec<(Stream, Node)>,
    pub(crate) routes: Vec<(Route, Node)>,
}

/// Reads the top of the file and all below it.
pub(crate) fn read(table: Table, context: &mut Context) -> Option<Read> {
    let node = Node { at: At::default(), value: Value::Table(table), directory: Default::default(), secret: None };
    let mut reader = Reader::open(&node, &INCLUDE, context)?;
    let read = Read {
        root: node.clone(),
        edge: reader.take(ROOT, &EDGE),
        listeners: tables(&mut reader, &LISTENER),
        admin: reader.take(ROOT, &ADMIN),
        cores: tables(&mut reader, &CORE),
        identity: reader.take(ROOT, &IDENTITY),
        limits: reader.take(ROOT, &LIMITS),
        presence: reader.take(ROOT, &PRESENCE),
        shutdown: reader.take(ROOT, &SHUTDOWN),
        streams: tables(&mut reader, &STREAM),
        routes: tables(&mut reader, &ROUTE),
    };
    reader.finish(&ROOT_DESCRIPTION, None);
    Some(read)
}

/// The tables of a list that could be read; at the top a wrong one must not hide the others from the checks of the
/// whole.
fn tables<T: Setting>(reader: &mut Reader<'_, '_>, key: &Key) -> Vec<(T, Node)> {
    let Some(node) = reader.node(key.name) else {
        if matches!(key.absent, Absent::Required(_)) {
            let title = key.kind.description().map_or(key.name, |description| description.title);
            let at = reader.place(key.name);
            reader.context.findings.error(at, format!("there is no `{title}`")).note(key.doc);
        }
        return Vec::new();
    };
    if node.elements().is_empty() && key.filled {
        reader.error(key.name, format!("`{}` cannot be empty", key.name)).note(key.doc);
    }
    let element = Key { kind: T::KIND, ..*key };
    let read = |node: &Node| T::read(node, &element, reader.context).map(|value| (value, node.clone()));
    node.elements().iter().filter_map(read).collect()
}

/// The names of the cores that a file declares, right or wrong, in order.
pub(crate) fn core_names(table: &Table) -> Vec<String> {
    names(table, "core", "core")
}

/// The names of the streams that a file declares, right or wrong, in order.
pub(crate) fn stream_names(table: &Table) -> Vec<String> {
    names(table, "stream", "")
}

fn names(table: &Table, key: &str, unnamed: &str) -> Vec<String> {
    let name = |node: &Node| {
        node.table().and_then(|table| table.node("name")).and_then(Node::text).unwrap_or(unnamed).to_owned()
    };
    table.node(key).map(Node::elements).unwrap_or_default().iter().map(name).collect()
}

/// The configuration as a table, every key written out.
pub(crate) fn write(config: &Config) -> toml::Table {
    let names = Names { cores: config.cores.iter().map(|core| core.name.clone()).collect(), streams: Vec::new() };
    let mut writer = Writer::new(&names);
    writer.put(&PRESENCE, &config.presence);
    writer.put(&EDGE, &config.edge);
    writer.put(&LISTENER, &config.listeners);
    writer.put(&ADMIN, &config.admin);
    writer.put(&CORE, &config.cores);
    writer.put(&IDENTITY, &config.identity);
    writer.put(&LIMITS, &config.limits);
    writer.put(&SHUTDOWN, &config.shutdown);
    writer.put(&STREAM, &config.streams);
    writer.put(&ROUTE, &config.routes);
    writer.table
}
