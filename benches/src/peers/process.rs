//! A server as a process on one processor: started, counted with its children, killed with them.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::arguments::PinnedArguments;
use crate::node::{self, pin};

/// A running program that is not ours. Dropping it kills it and its children.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` on that processor. What it says goes to `log`.
    pub(super) fn start(processor: usize, program: &Path, arguments: &[String], log: &Path) -> io::Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["pinned", &format!("--processor={processor}"), "--"])
            .arg(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// The processor time in seconds that it and its children have used up; `None` once it has ended.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        self.child.id()?;
        Some(self.ids().into_iter().filter_map(node::usage).map(|usage| usage.cpu_seconds).sum())
    }

    /// Its process and all that descend from it; none once it has ended.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.child.id().map(family).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The children of one that is killed would live on.
        for id in self.ids() {
            let id = i32::try_from(id).ok().and_then(Pid::from_raw);
            // One that has just ended is as good.
            id.and_then(|id| kill_process(id, Signal::KILL).ok());
        }
    }
}

/// Pins this process and becomes the program that is named.
pub(super) fn become_other(arguments: &PinnedArguments) -> io::Result<()> {
    pin(arguments.processor)?;
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Err(std::process::Command::new(program).args(rest).exec())
}

/// A process and all that descend from it.
fn family(head: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut members = vec![head];
    let mut at = 0;
    while let Some(id) = members.get(at) {
        members.extend(children.remove(id).unwrap_or_default());
        at += 1;
    }
    members
}

/// The parent's id out of `/proc/PID/stat`: the second field behind the name in parentheses, which may hold blanks.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_behind_a_name_with_blanks() {
        assert_eq!(parent("42 (a (b) c) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent("nothing"), None);
    }

    #[test]
    fn a_child_belongs_to_its_parents_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = family(std::process::id()).contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
