//! What is in a local directory, one after the other, and what of it is not stored.

use std::ffi::OsString;
use std::fs::{DirEntry, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cli::exclude::Pattern;
use crate::cli::own;
use crate::cli::paths::failed_to_read;
use crate::exit::{Code, Failure, tell};

/// What to leave out beside what dfs itself keeps.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) exclude: Vec<Pattern>,
    pub(super) one_file_system: bool,
    pub(super) exclude_caches: bool,
}

/// How much was not stored, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotStored {
    /// Pipes, sockets, devices, and links that say what is no text.
    pub(super) skipped: u64,
    /// What dfs itself keeps, caches and other file systems.
    pub(super) left_out: u64,
    /// What a pattern names.
    pub(super) excluded: u64,
}

/// Something local with the remote name it gets.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    /// What it holds follows.
    Dir,
    /// What the link says.
    Link(String),
}

/// Walks through a directory in order of the names, itself first. Links are not followed. It holds
/// the names of the directories that it is in, and none of them open, so neither depth nor width
/// costs descriptors.
pub(super) struct Walk<'a> {
    rules: &'a Rules,
    /// Of the top, when other file systems are left out.
    device: Option<u64>,
    /// The directory itself, before it was given out.
    top: Option<Found>,
    /// What is still to be looked at, the next one last.
    ahead: Vec<Result<Entry, Failure>>,
    not_stored: NotStored,
    /// The remote names of what is not stored for another reason than a pattern.
    passed_by: Vec<String>,
}

/// Something below the top.
struct Entry {
    path: PathBuf,
    kind: FileType,
    file_name: OsString,
    /// The directory it is in, as it is called remotely and below the top.
    dir: String,
    below: String,
}

impl<'a> Walk<'a> {
    /// Begins at a directory, whose content becomes that of the remote directory `name`.
    pub(super) fn new(top: &Path, name: &str, rules: &'a Rules) -> Result<Self, Failure> {
        let found = std::fs::metadata(top).map_err(|error| failed_to_read(top, &error))?;
        if let Some(data) = own::data_dir_above(top) {
            let message = format!("{} is the data directory of a node", data.display());
            return Err(Failure::new(Code::Failed, message)
                .hint("what it holds is stored already; stop the node and copy it to back it up"));
        }
        let device = rules.one_file_system.then(|| found.dev());
        let own = || Found { path: top.to_owned(), name: name.to_owned(), what: What::Dir };
        let own = (!name.is_empty()).then(own);
        let (ahead, not_stored, passed_by) = (Vec::new(), NotStored::default(), Vec::new());
        let mut walk = Self { rules, device, top: own, ahead, not_stored, passed_by };
        walk.enter(top, name, "");
        Ok(walk)
    }

    /// What was passed by so far.
    pub(super) fn not_stored(&self) -> NotStored {
        self.not_stored
    }

    /// The remote names that what was passed by has or would have, patterns aside.
    pub(super) fn passed_by(&self) -> &[String] {
        &self.passed_by
    }

    fn pass_by(&mut self, entry: &Entry, why: &str) {
        tell(format_args!("{why}"));
        self.passed_by.push(Entry::joined(&entry.dir, &entry.file_name.to_string_lossy()));
    }

    /// Puts the entries of a directory ahead. What cannot be read is put there as a failure, so
    /// that it is counted and does not stop the others.
    fn enter(&mut self, dir: &Path, name: &str, below: &str) {
        let unreadable = |error: io::Error| failed_to_read(dir, &error);
        let mut entries = Vec::new();
        match std::fs::read_dir(dir) {
            Err(error) => entries.push(Err(unreadable(error))),
            Ok(read) => entries.extend(read.map(|entry| {
                let entry = entry.map_err(unreadable)?;
                Entry::of(&entry, name, below)
            })),
        }
        entries.sort_by_key(|entry| {
            std::cmp::Reverse(entry.as_ref().ok().map(|entry| entry.file_name.clone()))
        });
        self.ahead.append(&mut entries);
    }

    /// What to do with one entry: something to store, or nothing.
    fn look_at(&mut self, entry: Entry) -> Result<Option<Found>, Failure> {
        let Entry { path, kind, .. } = &entry;
        let below = Entry::joined(&entry.below, &entry.file_name.to_string_lossy());
        if self.rules.exclude.iter().any(|pattern| pattern.matches(&below, kind.is_dir())) {
            self.not_stored.excluded += 1;
            return Ok(None);
        }
        let what = match sort(path, *kind)? {
            Ok(what) => what,
            Err(why) => {
                self.not_stored.skipped += 1;
                let why = format!("skipped {}: {why}", path.display());
                self.pass_by(&entry, &why);
                return Ok(None);
            }
        };
        if let Some(why) = self.why_left_out(&entry)? {
            self.not_stored.left_out += 1;
            let why = format!("left out {}: {why}", path.display());
            self.pass_by(&entry, &why);
            return Ok(None);
        }
        let base = entry.file_name.to_str();
        let not_utf8 =
            || Failure::new(Code::Failed, format!("{} is not a UTF-8 name", path.display()));
        let name = Entry::joined(&entry.dir, base.ok_or_else(not_utf8)?);
        if what == What::Dir {
            self.enter(path, &name, &below);
        }
        Ok(Some(Found { path: entry.path, name, what }))
    }

    fn why_left_out(&self, entry: &Entry) -> Result<Option<&'static str>, Failure> {
        let Entry { path, kind, .. } = entry;
        let found =
            std::fs::symlink_metadata(path).map_err(|error| failed_to_read(path, &error))?;
        if self.device.is_some_and(|device| device != found.dev()) {
            return Ok(Some("another file system"));
        }
        if kind.is_symlink() {
            // Only what it says is stored, wherever it leads.
            return Ok(None);
        }
        if !kind.is_dir() {
            return Ok(own::of_file(path, &entry.file_name, found.len()));
        }
        let is_cache = self.rules.exclude_caches && has_cache_tag(path);
        Ok(own::of_dir(path).or_else(|| is_cache.then_some("a cache, as its CACHEDIR.TAG says")))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(top) = self.top.take() {
            return Some(Ok(top));
        }
        loop {
            let found = self.ahead.pop()?.and_then(|entry| self.look_at(entry));
            if let Some(found) = found.transpose() {
                return Some(found);
            }
        }
    }
}

impl Entry {
    fn of(entry: &DirEntry, dir: &str, below: &str) -> Result<Self, Failure> {
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| failed_to_read(&path, &error))?;
        let (dir, below) = (dir.to_owned(), below.to_owned());
        Ok(Self { path, kind, file_name: entry.file_name(), dir, below })
    }

    fn joined(dir: &str, base: &str) -> String {
        if dir.is_empty() { base.to_owned() } else { format!("{dir}/{base}") }
    }
}

/// What something is, or why it is not stored.
fn sort(path: &Path, kind: FileType) -> Result<Result<What, &'static str>, Failure> {
    Ok(match kind {
        kind if kind.is_dir() => Ok(What::Dir),
        kind if kind.is_file() => Ok(What::File),
        kind if kind.is_symlink() => {
            let says = std::fs::read_link(path).map_err(|error| failed_to_read(path, &error))?;
            says.into_os_string()
                .into_string()
                .map(What::Link)
                .map_err(|_| "a link to a name that is not UTF-8")
        }
        kind if kind.is_fifo() => Err("a pipe"),
        kind if kind.is_socket() => Err("a socket"),
        _ => Err("a device"),
    })
}

/// Whether a directory is marked as a cache, <https://bford.info/cachedir/>.
fn has_cache_tag(dir: &Path) -> bool {
    let path = dir.join("CACHEDIR.TAG");
    let is_file = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
    let mut head = [0; CACHE_TAG.len()];
    let mut read = || io::Read::read_exact(&mut std::fs::File::open(&path)?, &mut head);
    is_file && read().is_ok() && head == *CACHE_TAG
}

const CACHE_TAG: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn walked(dir: &Path, rules: &Rules) -> (Vec<String>, usize, NotStored) {
        let mut walk = Walk::new(dir, "top", rules).unwrap();
        let (found, failed): (Vec<_>, Vec<_>) = walk.by_ref().partition(Result::is_ok);
        let found = found.into_iter().map(Result::unwrap);
        let names = found.filter(|found| found.what != What::Dir).map(|found| found.name);
        (names.collect(), failed.len(), walk.not_stored())
    }

    fn write(dir: &Path, names: &[&str]) {
        for name in names {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), "x").unwrap();
        }
    }

    #[test]
    fn what_has_no_name_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["b", "a/b", "a/a"]);
        for name in [&b"\xff"[..], b"a/\xfe"] {
            fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        let (names, failed, not_stored) = walked(dir.path(), &Rules::default());
        assert_eq!(names, ["top/a/a", "top/a/b", "top/b"]);
        assert_eq!((failed, not_stored), (2, NotStored::default()));
        assert!(Walk::new(&dir.path().join("missing"), "top", &Rules::default()).is_err());
    }

    #[test]
    fn links_are_not_followed_and_special_files_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["a", "sub/b"]);
        for link in ["to-file", "sub/to-nothing", "to-dir"] {
            std::os::unix::fs::symlink("sub", dir.path().join(link)).unwrap();
        }
        let odd = OsStr::from_bytes(b"\xff");
        std::os::unix::fs::symlink(odd, dir.path().join("to-odd")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let (names, failed, not_stored) = walked(dir.path(), &Rules::default());
        let expected = ["top/a", "top/sub/b", "top/sub/to-nothing", "top/to-dir", "top/to-file"];
        assert_eq!((names, failed), (expected.map(ToOwned::to_owned).to_vec(), 0));
        assert_eq!(not_stored, NotStored { skipped: 2, ..NotStored::default() });
    }

    #[test]
    fn directories_come_before_what_they_hold_and_links_with_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("../x", dir.path().join("a/l")).unwrap();
        let rules = Rules::default();
        let found = Walk::new(dir.path(), "top", &rules).unwrap().map(Result::unwrap);
        let found: Vec<_> = found.map(|found| (found.name, found.what)).collect();
        let link = What::Link("../x".to_owned());
        let named = |name: &str, what| (name.to_owned(), what);
        let [top, a, b] = ["top", "top/a", "top/a/b"].map(|name| named(name, What::Dir));
        assert_eq!(found, [top, a, b, named("top/a/l", link)]);
        // The root has no name.
        let names = Walk::new(dir.path(), "", &rules).unwrap().map(|found| found.unwrap().name);
        assert_eq!(names.collect::<Vec<_>>(), ["a", "a/b", "a/l"]);
    }

    #[test]
    fn what_dfs_keeps_is_left_out_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["doc", "n1/blobs/ab", ".dfs/n2/blobs/ab", ".f.dfs-12", "format"]);
        for data in ["n1", ".dfs/n2"] {
            fs::write(dir.path().join(data).join("format"), "dfs-data 2\n").unwrap();
        }
        let (names, failed, not_stored) = walked(dir.path(), &Rules::default());
        assert_eq!((names, failed), (vec!["top/doc".to_owned(), "top/format".to_owned()], 0));
        assert_eq!(not_stored, NotStored { left_out: 3, ..NotStored::default() });
        for inside in ["n1", "n1/blobs"] {
            let Err(refused) = Walk::new(&dir.path().join(inside), "top", &Rules::default()) else {
                panic!("{inside} was entered")
            };
            assert!(refused.message.ends_with("n1 is the data directory of a node"));
        }
    }

    #[test]
    fn patterns_and_cache_tags_leave_out_what_is_below_too() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &["a.o", "a.c", "target/a.c", "sub/target/x", "cache/x", "tagless/x"]);
        fs::write(dir.path().join("cache/CACHEDIR.TAG"), [&CACHE_TAG[..], b"\n# x\n"].concat())
            .unwrap();
        fs::write(dir.path().join("tagless/CACHEDIR.TAG"), "Signature: none").unwrap();
        let exclude = ["*.o", "target/"].map(|text| Pattern::parse(text).unwrap()).into();
        let rules = Rules { exclude, exclude_caches: true, one_file_system: true };
        let (names, failed, not_stored) = walked(dir.path(), &rules);
        assert_eq!(names, ["top/a.c", "top/tagless/CACHEDIR.TAG", "top/tagless/x"]);
        assert_eq!((failed, not_stored), (0, NotStored { left_out: 1, excluded: 3, skipped: 0 }));
    }

    #[test]
    fn a_tree_may_be_deeper_than_descriptors_last() {
        let dir = tempfile::tempdir().unwrap();
        let deep = vec!["d"; 500].join("/");
        fs::create_dir_all(dir.path().join(&deep)).unwrap();
        fs::write(dir.path().join(&deep).join("f"), "x").unwrap();
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let rules = Rules::default();
        let mut walk = Walk::new(dir.path(), "", &rules).unwrap();
        let before = open();
        assert_eq!(walk.find_map(Result::ok).unwrap().name, "d");
        assert_eq!(walk.last().unwrap().unwrap().name, format!("{deep}/f"));
        // Other tests of this process open files too.
        assert!(open() < before + 100);
    }
}
