//! Every place where the power can fail, and every operation that can fail, in the life of a store.
//!
//! A script of writes runs on a simulated disk. For each operation of the disk and each crash
//! policy the power fails there, once more at a random operation while the store recovers, and
//! then everything acknowledged must be there. The same for each operation failing once.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, DirId, RecordKey, Tag, VaultId, Vid};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::{Kind, Record, Version};
use dfs_store::blob::Blob;
use dfs_store::vault::keys::VaultKey;
use dfs_store::vault::seal::Salt;

use crate::disk::CrashPolicy;
use crate::fs::{DiskFaults, EIO, EMFILE, ENOSPC, EROFS, SimDisk, SimFs};
use crate::rng::Rng;
use crate::stopped;
use crate::trace::Trace;

/// How many states were looked at, and what was wrong with them.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations of the disk in the whole script.
    pub operations: u64,
    /// Crashes and failures tried.
    pub states: u64,
    /// Acknowledged writes that were looked for.
    pub acknowledged: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
}

/// Something acknowledged.
#[derive(Debug, Clone)]
enum Kept {
    Blob(Blob),
    Record(RecordKey, Vid),
    Ref(RefRow),
    State(u8),
}

/// What happens to the disk in one trial.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    Cut(CrashPolicy),
    Fail(i32),
    /// A sync fails and drops what it should have kept.
    FailSync,
}

const MISHAPS: [Mishap; 11] = [
    Mishap::Cut(CrashPolicy::DropAll),
    Mishap::Cut(CrashPolicy::KeepAll),
    Mishap::Cut(CrashPolicy::Prefix),
    Mishap::Cut(CrashPolicy::Subset),
    Mishap::Cut(CrashPolicy::MetaFirst),
    Mishap::Cut(CrashPolicy::DataFirst),
    Mishap::Fail(EIO),
    Mishap::Fail(ENOSPC),
    Mishap::Fail(EMFILE),
    Mishap::Fail(EROFS),
    Mishap::FailSync,
];

/// Tries every `stride`-th operation, on as many threads.
///
/// # Panics
/// When a thread panics.
pub fn explore(stride: u64, threads: usize) -> Report {
    let (operations, _) = trial(u64::MAX, Mishap::Cut(CrashPolicy::DropAll));
    let next = AtomicU64::new(1);
    let mut total = Report { operations, ..Report::default() };
    let reports = std::thread::scope(|scope| {
        let worker = || {
            let mut report = Report::default();
            loop {
                let at = next.fetch_add(stride, Ordering::Relaxed);
                if at > operations {
                    return report;
                }
                for mishap in MISHAPS {
                    let (_, outcome) = trial(at, mishap);
                    report.states += 1;
                    match outcome {
                        Ok(kept) => report.acknowledged += kept,
                        Err(why) => {
                            report.violations.push(format!("{mishap:?} at operation {at}: {why}"));
                        }
                    }
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    for report in reports {
        total.states += report.states;
        total.acknowledged += report.acknowledged;
        total.violations.extend(report.violations);
    }
    total
}

/// One mishap at one operation; gives the operations of the script, and how many acknowledged
/// writes were found again.
fn trial(at: u64, mishap: Mishap) -> (u64, Result<u64, String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    runtime.block_on(async {
        let trace = Trace::new(false);
        let mut rng = Rng::new(at).fork(mishap_label(mishap));
        let disk = SimDisk::new(0, rng.fork(1), trace.clone());
        disk.set_faults(|faults| match mishap {
            Mishap::Cut(_) => faults.cut_at = Some(at),
            Mishap::Fail(errno) => faults.fail_at = Some((at, errno)),
            Mishap::FailSync => {
                faults.fail_at = Some((at, EIO));
                faults.fail_drops = true;
            }
        });
        let mut kept = Vec::new();
        let fs = disk.boot();
        script(&fs, &trace, &mut kept).await;
        let operations = disk.ops();
        fs.kill();
        disk.set_faults(|faults| *faults = DiskFaults::default());
        match mishap {
            Mishap::Cut(policy) => {
                disk.crash(policy);
                // The power fails again while the store recovers.
                let second = disk.ops() + rng.between(1, 80);
                disk.set_faults(|faults| faults.cut_at = Some(second));
                let fs = disk.boot();
                if let Ok((_, store)) = stopped::open(&fs, &trace, PACKED_MAX).await {
                    let _ = store.reconcile().await;
                }
                fs.kill();
                disk.set_faults(|faults| faults.cut_at = None);
                disk.crash(*rng.pick(&CrashPolicy::ALL));
            }
            // The process starts anew, and then the power fails: what it believed must be true.
            Mishap::Fail(_) | Mishap::FailSync => {
                let fs = disk.boot();
                let opened = stopped::open(&fs, &trace, PACKED_MAX).await;
                if let Err(why) = opened {
                    return (operations, Err(format!("it does not start anew: {why}")));
                }
                fs.kill();
                disk.crash(CrashPolicy::DropAll);
            }
        }
        let found = verify(&disk, &trace, &kept).await;
        (operations, found.map(|()| kept.len() as u64))
    })
}

fn mishap_label(mishap: Mishap) -> u64 {
    match mishap {
        Mishap::Cut(policy) => policy as u64,
        Mishap::Fail(errno) => 100 + u64::from(errno.unsigned_abs()),
        Mishap::FailSync => 99,
    }
}

/// Blobs, records, versions that follow others, references, reads, collections and small state, and
/// what of it was acknowledged.
async fn script(fs: &SimFs, trace: &Trace, kept: &mut Vec<Kept>) {
    let Ok((_, store)) = stopped::open(fs, trace, PACKED_MAX).await else { return };
    for number in 0..STEPS {
        let blob = blob(number);
        if store.put_blob(blob.id, blob.bytes.clone()).await.is_ok() {
            kept.push(Kept::Blob(blob.clone()));
        }
        let (key, version) = version(number);
        let vid = version.vid;
        if store.merge_records(vec![(key, Record::of(version))]).await.is_ok() {
            kept.push(Kept::Record(key, vid));
        }
        let row = row(blob.id, key, vid);
        if store.add_refs(vec![row]).await.is_ok() {
            kept.push(Kept::Ref(row));
            // It stays, for a use of it is noted.
            let _ = store.collect(blob.id, || true).await;
        }
        if number % 4 == 1 {
            let doomed = self::blob(UNUSED + number);
            let _ = store.put_blob(doomed.id, doomed.bytes).await;
            let _ = store.collect(doomed.id, || true).await;
        }
        if number % 4 == 0 && store.put_state("step", vec![number]).await.is_ok() {
            kept.push(Kept::State(number));
        }
        // A read that fails sets nothing aside that is good.
        let _ = store.get_blob(blob.id).await;
    }
    store.close().await;
}

async fn verify(disk: &SimDisk, trace: &Trace, kept: &[Kept]) -> Result<(), String> {
    let (_, store) = stopped::open(&disk.boot(), trace, PACKED_MAX).await?;
    let state = store.state("step").await.map_err(|error| error.to_string())?;
    for kept in kept {
        match kept {
            Kept::Blob(blob) => match store.get_blob(blob.id).await {
                Ok(read) if read == *blob => {}
                other => return Err(format!("a blob was acknowledged and is {other:?}")),
            },
            Kept::Record(key, vid) => {
                let record = store.record(*key).await.map_err(|error| error.to_string())?;
                if record.head(vid).is_none() {
                    return Err("a version was acknowledged and is gone".to_owned());
                }
            }
            Kept::Ref(row) => {
                let rows =
                    store.refs_of(row.blob, None, 9).await.map_err(|error| error.to_string())?;
                if !rows.contains(row) {
                    return Err("a reference was acknowledged and is gone".to_owned());
                }
            }
            Kept::State(step) => {
                let newer = state.as_ref().is_some_and(|value| value.first() >= Some(step));
                if !newer {
                    return Err("a state was acknowledged and is gone".to_owned());
                }
            }
        }
    }
    check_held(&store).await?;
    // Files that the index does not know are taken in, and nothing that was held is lost by it.
    let done = store.reconcile().await.map_err(|error| error.to_string())?;
    if done.left > 0 {
        return Err(format!("files are left out: {done:?}"));
    }
    let held = check_held(&store).await?;
    let files = disk.blob_files().len();
    if held != files {
        return Err(format!("{held} blobs should have files and {files} files are there"));
    }
    // It goes on working.
    let blob = blob(STEPS + 1);
    store.put_blob(blob.id, blob.bytes).await.map_err(|error| error.to_string())
}

/// Reads every blob that is said to be held, and says how many have files.
async fn check_held(store: &dfs_store::Store) -> Result<usize, String> {
    let (mut count, mut held) = (0, 0);
    for number in (0..STEPS).chain(UNUSED..UNUSED + STEPS) {
        let blob = blob(number);
        if store.has_blob(blob.id).await.map_err(|error| error.to_string())? {
            count += usize::from(blob.bytes.len() > PACKED_MAX);
            held += blob.bytes.len() as u64;
            let read = store.get_blob(blob.id).await;
            if read.as_ref().ok() != Some(&blob) {
                return Err(format!("a blob is said to be held and is {read:?}"));
            }
        }
    }
    if held != store.used() {
        return Err(format!("{held} bytes are held and {} are counted", store.used()));
    }
    Ok(count)
}

fn blob(number: u8) -> Blob {
    let keys = VaultKey::from_bytes([7; 32]).derive();
    let content = Bytes::from(vec![number; 100 + usize::from(number) * 300]);
    keys.chunks.seal(&content, Salt::Deduplicating, true)
}

fn version(number: u8) -> (RecordKey, Version) {
    let key = RecordKey {
        vault: VaultId::new([1; 16]),
        dir: DirId::new([2; 16]),
        tag: Tag::new([number; 16]),
    };
    let version = Version {
        vid: Vid::new([number + 1; 16]),
        actor: u64::from(number),
        hlc: Hlc(u64::from(number) + 1),
        context: [(u64::from(number) + 1000, Hlc(1))].into(),
        kind: Kind::Live,
        sealed: Bytes::from(vec![number; 64 + usize::from(number) * 50]),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: CertId::new([0; 32]),
        signature: [0; 64],
    };
    (key, version)
}

fn row(blob: BlobId, key: RecordKey, vid: Vid) -> RefRow {
    RefRow { blob, vid, key, hlc: Hlc(1), dropped: false, hold_until: Hlc(9) }
}

/// A third of the blobs lie in the index.
const PACKED_MAX: usize = dfs_store::PACKED_BYTES_MAX;
/// From here on, blobs that nobody uses.
const UNUSED: u8 = 2 * STEPS;
/// Rounds of the script: some 2,300 operations of the disk.
const STEPS: u8 = 45;
