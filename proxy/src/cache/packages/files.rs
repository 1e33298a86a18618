//! The files of answers on disk, and the order in which they are written. Everything here blocks.
//!
//! | file | what it is |
//! | --- | --- |
//! | `NAME.part` | a body on its way |
//! | `NAME.body` | a whole body; without a head it is nothing |
//! | `NAME.head` | what is known of it; renamed into its place last |
//! | `NAME.new` | a head on its way |
//!
//! Nothing is synced: after a power loss a file may be missing or torn, which its proof shows, and the core is asked again. A
//! process that is killed leaves whole answers and parts, and the next start removes the parts.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::head::Head;

/// The directory. It is the tier's own: what does not belong there is removed on start.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

/// What a start finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Heads whose bodies are there, by their names.
    pub(super) whole: Vec<(String, Head)>,
    /// Heads that cannot be read, and those whose bodies are missing or of another length.
    pub(super) damaged: usize,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The file that a body is written to and read from at the same time.
    pub(super) fn begin(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name, "part"))
    }

    /// Makes a body that has come to its end whole.
    pub(super) fn finish(&self, name: &str, head: &Head) -> io::Result<()> {
        fs::rename(self.path(name, "part"), self.path(name, "body"))?;
        self.write_head(name, head)
    }

    /// Puts a head in the place of the last one.
    pub(super) fn write_head(&self, name: &str, head: &Head) -> io::Result<()> {
        let new = self.path(name, "new");
        fs::write(&new, head.to_bytes()?)?;
        fs::rename(new, self.path(name, "head"))
    }

    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name, "body"))
    }

    /// Removes all files of that name, the head first, so that no head is ever without its body.
    pub(super) fn remove(&self, name: &str) {
        for kind in ["head", "new", "body", "part"] {
            remove(&self.path(name, kind));
        }
    }

    /// Looks at every file once, reads the heads, and removes what belongs to no whole answer. Makes the directory where there is none.
    pub(super) fn restore(&self) -> io::Result<Found> {
        DirBuilder::new().recursive(true).mode(0o750).create(&self.dir)?;
        let mut found = Found::default();
        let mut bodies = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            let (Some(name), kind) =
                (path.file_stem().and_then(OsStr::to_str), path.extension().and_then(OsStr::to_str))
            else {
                continue;
            };
            match kind {
                Some("head") => match self.read_head(name, &path) {
                    Some(head) => found.whole.push((name.to_owned(), head)),
                    None => {
                        found.damaged += 1;
                        self.remove(name);
                    }
                },
                Some("body") => bodies.push(name.to_owned()),
                Some("part" | "new") => remove(&path),
                _ => {}
            }
        }
        found.whole.sort_by_key(|(_, head)| head.stored);
        let known: HashSet<&str> = found.whole.iter().map(|(name, _)| name.as_str()).collect();
        for body in bodies.iter().filter(|body| !known.contains(body.as_str())) {
            remove(&self.path(body, "body"));
        }
        Ok(found)
    }

    /// A head that can be read and whose body is as long as it says.
    fn read_head(&self, name: &str, path: &Path) -> Option<Head> {
        let mut written = Vec::new();
        File::open(path).ok()?.take(Head::MAX_BYTES).read_to_end(&mut written).ok()?;
        let head = Head::from_bytes(&written)?;
        let length = fs::metadata(self.path(name, "body")).ok()?.len();
        (length == head.length).then_some(head)
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{name}.{kind}"))
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the cache cannot be removed");
    }
}
