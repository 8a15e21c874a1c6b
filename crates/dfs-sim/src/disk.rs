//! What one disk holds: what processes see, what the platter has, and the operations in between.
//!
//! A write is seen at once and durable after the file is synced; a name is seen at once and durable
//! after its directory is synced. A power cut decides what becomes of the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::rng::Rng;

/// A file's number; names point to it.
pub type Inode = u64;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// A directory.
    Dir,
    /// A file.
    File(Inode),
}

/// What becomes of operations that were not synced when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPolicy {
    /// All are lost.
    DropAll,
    /// All survive: the process died, not the machine.
    KeepAll,
    /// The first few survive, in order, the last of them torn.
    Prefix,
    /// Each survives or not, sector by sector.
    Subset,
    /// Names and sizes survive, contents do not.
    MetaFirst,
    /// Contents survive, names and sizes do not.
    DataFirst,
}

impl CrashPolicy {
    /// Every policy.
    pub const ALL: [Self; 6] = [
        Self::DropAll,
        Self::KeepAll,
        Self::Prefix,
        Self::Subset,
        Self::MetaFirst,
        Self::DataFirst,
    ];

    /// The name of the fault.
    pub fn fault(self) -> &'static str {
        match self {
            Self::DropAll => "crash: drop all",
            Self::KeepAll => "crash: keep all",
            Self::Prefix => "crash: prefix",
            Self::Subset => "crash: subset",
            Self::MetaFirst => "crash: names first",
            Self::DataFirst => "crash: data first",
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write { inode: Inode, offset: usize, data: Vec<u8> },
    SetLen { inode: Inode, len: usize },
    Link { path: PathBuf, name: Name },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, name: Name },
}

#[derive(Debug, Clone, Default)]
struct Side {
    names: BTreeMap<PathBuf, Name>,
    contents: BTreeMap<Inode, Vec<u8>>,
}

/// One disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    seen: Side,
    durable: Side,
    pending: Vec<Op>,
    next_inode: Inode,
}

impl Side {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { inode, offset, data } => write(self.content(*inode), *offset, data),
            Op::SetLen { inode, len } => self.content(*inode).resize(*len, 0),
            Op::Link { path, name } => {
                self.names.insert(path.clone(), *name);
            }
            Op::Unlink { path } => {
                self.names.remove(path);
            }
            Op::Rename { from, to, name } => {
                if self.names.get(from) == Some(name) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *name);
            }
        }
    }

    fn content(&mut self, inode: Inode) -> &mut Vec<u8> {
        self.contents.entry(inode).or_default()
    }

    /// Drops names whose directory is gone, and contents without a name.
    fn tidy(&mut self) {
        let dirs: BTreeSet<PathBuf> = self
            .names
            .iter()
            .filter(|(_, name)| **name == Name::Dir)
            .map(|(path, _)| path.clone())
            .collect();
        let reachable = |path: &Path| {
            let above = path.ancestors().skip(1);
            above.filter(|dir| *dir != Path::new("/")).all(|dir| dirs.contains(dir))
        };
        self.names.retain(|path, _| reachable(path));
        let named: BTreeSet<Inode> = self
            .names
            .values()
            .filter_map(|name| match name {
                Name::File(inode) => Some(*inode),
                Name::Dir => None,
            })
            .collect();
        self.contents.retain(|inode, _| named.contains(inode));
        for inode in named {
            self.content(inode);
        }
    }
}

fn write(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

impl Disk {
    fn perform(&mut self, op: Op) {
        self.seen.apply(&op);
        self.pending.push(op);
    }

    /// What a path is now.
    pub fn name(&self, path: &Path) -> Option<Name> {
        self.seen.names.get(path).copied()
    }

    /// Everything below a directory, in order.
    pub fn names_below(&self, dir: &Path) -> Vec<(PathBuf, Name)> {
        let from = self.seen.names.range(dir.to_owned()..);
        let below = from.take_while(|(path, _)| path.starts_with(dir));
        below.map(|(path, name)| (path.clone(), *name)).collect()
    }

    /// The content of a file.
    pub fn content(&self, inode: Inode) -> &[u8] {
        self.seen.contents.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// All bytes on the platter: what a thief of the disk would read.
    pub fn durable_contents(&self) -> impl Iterator<Item = &[u8]> {
        self.durable.contents.values().map(Vec::as_slice)
    }

    /// Makes a file or directory.
    pub fn link(&mut self, path: &Path, is_dir: bool) -> Name {
        let name = if is_dir {
            Name::Dir
        } else {
            self.next_inode += 1;
            self.seen.content(self.next_inode);
            Name::File(self.next_inode)
        };
        self.perform(Op::Link { path: path.to_owned(), name });
        name
    }

    /// Removes a name.
    pub fn unlink(&mut self, path: &Path) {
        self.perform(Op::Unlink { path: path.to_owned() });
    }

    /// Moves a name over another; `false` when there is none.
    pub fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(name) = self.name(from) else { return false };
        self.perform(Op::Rename { from: from.to_owned(), to: to.to_owned(), name });
        true
    }

    /// Writes into a file.
    pub fn write(&mut self, inode: Inode, offset: usize, data: &[u8]) {
        self.perform(Op::Write { inode, offset, data: data.to_vec() });
    }

    /// Cuts or extends a file.
    pub fn set_len(&mut self, inode: Inode, len: usize) {
        self.perform(Op::SetLen { inode, len });
    }

    /// Makes a file's content durable.
    pub fn sync_file(&mut self, inode: Inode) {
        self.settle(|op| op.inode() == Some(inode));
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&mut self, dir: &Path) {
        self.settle(|op| op.dir() == Some(dir));
    }

    fn settle(&mut self, mut settles: impl FnMut(&Op) -> bool) {
        let (settled, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|op| settles(op));
        let settled: Vec<Op> = settled;
        settled.iter().for_each(|op| self.durable.apply(op));
        self.pending = rest;
    }

    /// Forgets what was written to a file since its last sync, but goes on showing it: what some
    /// kernels do when a sync fails.
    pub fn lose_unsynced(&mut self, inode: Inode) {
        self.pending.retain(|op| op.inode() != Some(inode));
    }

    /// Shows what the platter has and what is still on its way there, and nothing else.
    pub fn forget_cached(&mut self, inode: Inode) {
        let mut content = self.durable.contents.get(&inode).cloned().unwrap_or_default();
        for op in self.pending.iter().filter(|op| op.inode() == Some(inode)) {
            match op {
                Op::Write { offset, data, .. } => write(&mut content, *offset, data),
                Op::SetLen { len, .. } => content.resize(*len, 0),
                _ => {}
            }
        }
        *self.seen.content(inode) = content;
    }

    /// The power fails.
    pub fn crash(&mut self, policy: CrashPolicy, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let keep = match policy {
            CrashPolicy::DropAll => 0,
            CrashPolicy::Prefix => rng.below(pending.len() + 1),
            _ => pending.len(),
        };
        for (at, op) in pending.iter().take(keep).enumerate() {
            let is_last = at + 1 == keep;
            match (policy, op) {
                (CrashPolicy::Prefix, Op::Write { .. }) if is_last => self.tear(op, rng),
                (CrashPolicy::Subset, Op::Write { .. }) => self.tear(op, rng),
                (CrashPolicy::Subset, _) if rng.flip() => {}
                (CrashPolicy::MetaFirst, Op::Write { inode, offset, data }) => {
                    let content = self.durable.content(*inode);
                    let len = content.len().max(offset + data.len());
                    content.resize(len, 0);
                }
                (CrashPolicy::DataFirst, Op::Write { .. }) => self.durable.apply(op),
                (CrashPolicy::DataFirst, _) => {}
                _ => self.durable.apply(op),
            }
        }
        self.durable.tidy();
        self.seen = self.durable.clone();
    }

    /// Lets some sectors of a write through.
    fn tear(&mut self, op: &Op, rng: &mut Rng) {
        let Op::Write { inode, offset, data } = op else { return };
        let sector = if rng.flip() { 512 } else { 4096 };
        let mut at = 0;
        while at < data.len() {
            let end = ((offset + at) / sector + 1) * sector - offset;
            let end = end.min(data.len());
            if rng.flip() {
                write(self.durable.content(*inode), offset + at, &data[at..end]);
            }
            at = end;
        }
    }

    /// Changes the bytes of a file on the platter, behind everyone's back.
    pub fn damage(&mut self, inode: Inode, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.seen.content(inode));
        let changed = self.seen.content(inode).clone();
        *self.durable.content(inode) = changed;
    }
}

impl Op {
    fn inode(&self) -> Option<Inode> {
        match self {
            Self::Write { inode, .. } | Self::SetLen { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    /// The directory whose sync makes the operation durable. A rename is one operation of a
    /// journalled file system: it lasts with the directory it leads to.
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A synced file `a` with `old`, then `new` written over it and renamed to `b`, unsynced.
    fn disk() -> (Disk, Inode) {
        let mut disk = Disk::default();
        let Name::File(inode) = disk.link(Path::new("/a"), false) else { panic!("no file") };
        disk.write(inode, 0, b"old");
        disk.sync_file(inode);
        disk.sync_dir(Path::new("/"));
        disk.write(inode, 0, b"newer");
        disk.rename(Path::new("/a"), Path::new("/b"));
        (disk, inode)
    }

    #[track_caller]
    fn check(policy: CrashPolicy, name: &str, content: &[u8]) {
        let (mut disk, inode) = disk();
        disk.crash(policy, &mut Rng::new(1));
        assert_eq!(disk.name(Path::new(name)), Some(Name::File(inode)));
        assert_eq!(disk.content(inode), content);
    }

    #[test]
    fn each_policy_keeps_what_it_says() {
        check(CrashPolicy::DropAll, "/a", b"old");
        check(CrashPolicy::KeepAll, "/b", b"newer");
        check(CrashPolicy::MetaFirst, "/b", b"old\0\0");
        check(CrashPolicy::DataFirst, "/a", b"newer");
    }

    #[test]
    fn a_prefix_is_in_order() {
        for seed in 0..50 {
            let (mut disk, inode) = disk();
            disk.crash(CrashPolicy::Prefix, &mut Rng::new(seed));
            let renamed = disk.name(Path::new("/b")).is_some();
            assert!(!renamed || disk.content(inode) == b"newer");
        }
    }

    #[test]
    fn what_was_synced_survives_every_policy() {
        for policy in CrashPolicy::ALL {
            for seed in 0..20 {
                let (mut disk, inode) = disk();
                disk.sync_file(inode);
                disk.sync_dir(Path::new("/"));
                disk.crash(policy, &mut Rng::new(seed));
                assert_eq!(disk.name(Path::new("/b")), Some(Name::File(inode)));
                assert_eq!(disk.content(inode), b"newer");
            }
        }
    }

    #[test]
    fn a_file_without_a_durable_name_is_gone() {
        let mut disk = Disk::default();
        let Name::File(inode) = disk.link(Path::new("/a"), false) else { panic!("no file") };
        disk.write(inode, 0, b"x");
        disk.sync_file(inode);
        disk.crash(CrashPolicy::DropAll, &mut Rng::new(1));
        assert_eq!(disk.name(Path::new("/a")), None);
    }
}
