//! Opening a data directory of any content.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dfs_env::{Env, MemoryFs, MemoryNet, OpenMode, Vfs};

use super::KEY;
use crate::blob::Blob;
use crate::disk::data_dir::DataDir;
use crate::disk::store::{Config, Store};
use crate::error::OpenStoreError;
use crate::vault::keys::VaultKey;
use crate::vault::seal::Salt;

/// A directory, empty or of a node that ran, is changed as the input says and opened. What opens
/// must store, and hold what it stored when it is opened again.
///
/// The first byte says whether a node ran there. Each change is a file, what is done to it, an
/// offset in three bytes, and a count of bytes that follow.
pub fn data_dir(bytes: &[u8]) {
    let Some((made, mut rest)) = bytes.split_first() else { return };
    let fs = MemoryFs::default();
    fs.create_dir(Path::new(ROOT)).expect("the disk is empty");
    if made % 2 == 1 {
        restore(&fs, made_dir());
    }
    while let Some(changed) = change(&fs, rest) {
        rest = changed;
    }
    block_on(open_twice(&fs));
}

async fn open_twice(fs: &MemoryFs) {
    let Ok((id, store)) = open(fs, 1).await else { return };
    let kept = sample(b"kept");
    let stored = store.put_blob(kept.id, kept.bytes.clone()).await.is_ok();
    if let Ok(found) = store.get_blob(sample(b"earlier").id).await {
        assert_eq!(found.bytes, sample(b"earlier").bytes, "other bytes than the id names");
    }
    store.close().await;
    drop(store);
    fs.crash();
    let (again, store) = open(fs, 2).await.expect("what opened once opens again");
    assert_eq!(id, again, "the node became another");
    if stored {
        assert_eq!(store.get_blob(kept.id).await.expect("it was stored").bytes, kept.bytes);
    }
    store.close().await;
}

async fn open(fs: &MemoryFs, seed: u64) -> Result<([u8; 32], Store), OpenStoreError> {
    let env = Env::with_disk(seed, MemoryNet::default(), fs.clone());
    let dir = DataDir::open(&env, Path::new(ROOT))?;
    let store = Store::open(env, Config::new(ROOT)).await?;
    Ok((dir.node_key().to_bytes(), store))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without sockets needs nothing").block_on(work)
}

fn sample(content: &[u8]) -> Blob {
    VaultKey::from_bytes(KEY).derive().chunks.seal(content, Salt::Deduplicating, true)
}

/// The files of a node that ran, made once.
fn made_dir() -> &'static [(PathBuf, Vec<u8>)] {
    static MADE: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let fs = MemoryFs::default();
        block_on(async {
            let (_, store) = open(&fs, 1).await.expect("the disk is empty");
            let earlier = sample(b"earlier");
            store.put_blob(earlier.id, earlier.bytes).await.expect("there is room");
            store.close().await;
        });
        let files = fs.files_below(Path::new(ROOT)).into_iter();
        files.map(|path| (path.clone(), fs.read(&path, u64::MAX).expect("it is there"))).collect()
    })
}

fn restore(fs: &MemoryFs, files: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in files {
        fs.create_dir_all(path.parent().expect("it lies below the root")).expect("it is new");
        put(fs, path, bytes);
    }
}

/// Carries out one change; the rest of the input, or `None` at its end.
fn change<'a>(fs: &MemoryFs, input: &'a [u8]) -> Option<&'a [u8]> {
    let ([file, what, high, middle, low, count], rest) = input.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(*count)).unwrap_or((rest, &[]));
    let path = Path::new(ROOT).join(NAMES[usize::from(*file) % NAMES.len()]);
    let offset = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    let is_file = fs.metadata(&path).is_ok_and(|found| !found.is_dir);
    match what % 5 {
        0 if is_file => fs.damage(&path, |content| overwrite(content, offset, bytes)),
        1 if is_file => fs.damage(&path, |content| content.truncate(offset)),
        2 if is_file => fs.remove_file(&path).expect("it is there"),
        3 => put(fs, &path, bytes),
        4 => drop(fs.create_dir_all(&path)),
        _ => {}
    }
    Some(rest)
}

fn overwrite(content: &mut [u8], offset: usize, bytes: &[u8]) {
    if !content.is_empty() {
        let at = offset % content.len();
        let count = bytes.len().min(content.len() - at);
        content[at..at + count].copy_from_slice(&bytes[..count]);
    }
}

/// Puts a file there; where a directory is in its place, nothing changes.
fn put(fs: &MemoryFs, path: &Path, bytes: &[u8]) {
    let _ = path.parent().map(|parent| fs.create_dir_all(parent));
    if let Ok(file) = fs.open(path, OpenMode::Create) {
        file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("there is room");
        file.sync_data().expect("a disk in memory does not fail");
    }
}

const ROOT: &str = "/data";
const NAMES: [&str; 13] = [
    "lock",
    "format",
    "node.key",
    "writer.key",
    "boot",
    "index.redb",
    "index-made",
    "blobs",
    "tmp",
    "tmp/0.tmp",
    "quarantine",
    "lost+found",
    "boot.tmp",
];
