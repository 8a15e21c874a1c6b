//! What the disks of all replicas hold at rest, while no node runs: the same rows everywhere, and
//! every blob that any replica has on all of them.
//!
//! Reads cannot notice a copy that is missing, for the other two hide it. A blob that no replica
//! has is no fault here: uploads that were given up leave references to such, and what a file
//! needs is noticed by whoever reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, NodeId, Partition, PartitionBits, RecordKey, Vid};
use dfs_core::layout::epoch::{EpochCert, EpochState};
use dfs_core::record::refs::RefRow;
use dfs_core::record::version::Record;
use dfs_store::disk::path::PathTransform;
use dfs_store::disk::store::PageLimit;
use dfs_store::{PACKED_BYTES_MAX, ReadError, Store};

use crate::cluster::Cluster;
use crate::net::Host;
use crate::options::Options;
use crate::stopped;
use crate::workload::History;

/// What one node has on its disk.
struct Shelf {
    host: Host,
    node: NodeId,
    layout: Option<EpochState>,
    /// The hash of what was decided, for each epoch whose certificate is kept.
    chain: BTreeMap<u64, [u8; 32]>,
    /// Epochs without the signature of the cluster's only admin.
    not_governed: Vec<u64>,
    records: BTreeMap<RecordKey, Record>,
    /// Rows, without those whose use has ended.
    refs: BTreeSet<(BlobId, Vid, RecordKey)>,
    blobs: BTreeMap<BlobId, Copy>,
    /// Blob files that no such row refers to.
    unwanted: usize,
}

/// What a node has of a blob that a row of its refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Good,
    /// The index names it, and the file holds something else.
    Bad,
    /// The index names it, and there is no file. No fault of a disk does that.
    NoFile,
    NotHeld,
}

/// Every record, as all replicas have it at rest.
pub type Records = BTreeMap<RecordKey, Record>;

/// Looks at every disk, and reads every blob: what is bad is set aside by that, and its node will
/// fetch it anew once it runs. Where a disk was damaged that is allowed; after it was `mended` not.
pub async fn audit(
    cluster: &Cluster,
    options: &Options,
    history: &History,
    mended: bool,
) -> Records {
    let mut shelves = Vec::new();
    for host in cluster.serving() {
        match Shelf::read(cluster, host).await {
            Ok(shelf) => shelves.push(shelf),
            Err(why) => {
                history.violation(format!("the disk of node {host} cannot be looked at: {why}"));
                return Records::new();
            }
        }
    }
    let layouts = shelves.iter().filter_map(|shelf| shelf.layout.as_ref());
    let Some(layout) = layouts.max_by_key(|layout| layout.epoch) else { return Records::new() };
    let records: Records = shelves.iter().flat_map(|shelf| shelf.records.clone()).collect();
    // Where uses end, rows and blobs that no record needs go from one disk after the other.
    let needed_only = options.collects;
    let audit = Audit { cluster, layout, shelves: &shelves, records: &records, needed_only };
    let mut decided = BTreeMap::new();
    for (epoch, hash) in shelves.iter().flat_map(|shelf| &shelf.chain) {
        if decided.insert(epoch, hash).is_some_and(|other| other != hash) {
            history.violation(format!("epoch {epoch} was decided twice"));
        }
    }
    govern(history, options, layout, &shelves);
    let used_by = shelves.iter().flat_map(|shelf| &shelf.refs).map(|(_, _, key)| key);
    let is_foreign = |key: &&RecordKey| key.vault != Cluster::vault();
    let foreign = records.keys().chain(used_by).filter(is_foreign).count();
    if foreign > 0 {
        history.violation(format!("at rest, {foreign} rows are of a vault that nobody named"));
    }
    let left = if options.collects && mended { audit.left() } else { Faults::new() };
    for (what, at) in audit.rows().into_iter().chain(audit.blobs(mended)).chain(left) {
        history.violation(format!("at rest, {} {what}", at.len()));
        at.into_iter().take(SHOWN_MAX).for_each(|one| cluster.trace.say(|| one));
    }
    records
}

/// Whether only gateways decided about the layout, and took out no honest node.
fn govern(history: &History, options: &Options, layout: &EpochState, shelves: &[Shelf]) {
    for (shelf, epoch) in shelves.iter().flat_map(|s| s.not_governed.iter().map(move |e| (s, e))) {
        let host = shelf.host;
        history.violation(format!("node {host} follows epoch {epoch}, which no admin signed"));
    }
    if !layout.voters.iter().all(|voter| layout.is_gateway(voter)) {
        history.violation("a node votes that is no gateway".to_owned());
    }
    for shelf in shelves.iter().filter(|_| options.hostile_machine().is_some()) {
        if !layout.active().any(|member| member.node_id == shelf.node) {
            history.violation(format!("honest node {} is no member any more", shelf.host));
        }
    }
}

/// Each kind of fault, with where it was found.
type Faults = BTreeMap<&'static str, Vec<String>>;

struct Audit<'a> {
    cluster: &'a Cluster,
    layout: &'a EpochState,
    shelves: &'a [Shelf],
    records: &'a Records,
    /// Whether only what some record needs must be everywhere.
    needed_only: bool,
}

impl Audit<'_> {
    fn replicas(&self, partition: Partition) -> impl Iterator<Item = (Host, &Shelf)> {
        let holds = move |shelf: &&Shelf| self.layout.is_replica(partition, &shelf.node);
        self.shelves.iter().filter(holds).map(|shelf| (shelf.host, shelf))
    }

    fn is_needed(&self, (_, vid, key): &(BlobId, Vid, RecordKey)) -> bool {
        self.records.get(key).is_some_and(|record| record.needs(vid))
    }

    /// The uses that must be on every replica.
    fn uses(&self) -> BTreeSet<&(BlobId, Vid, RecordKey)> {
        let all = self.shelves.iter().flat_map(|shelf| &shelf.refs);
        all.filter(|row| !self.needed_only || self.is_needed(row)).collect()
    }

    /// What should have been given back by now.
    fn left(&self) -> Faults {
        let mut faults = Faults::new();
        for shelf in self.shelves {
            let host = shelf.host;
            for row in shelf.refs.iter().filter(|row| !self.is_needed(row)) {
                let at = format!("node {host} counts {row:?}");
                faults.entry("uses are counted that no record needs").or_default().push(at);
            }
            if shelf.unwanted > 0 {
                let at = format!("node {host} has {} files that nobody wants", shelf.unwanted);
                faults.entry("disks have files that nobody wants").or_default().push(at);
            }
        }
        faults
    }

    fn rows(&self) -> Faults {
        let mut faults = Faults::new();
        let keys: BTreeSet<_> = self.shelves.iter().flat_map(|s| s.records.keys()).collect();
        for key in keys {
            let held = self.replicas(key.partition(self.layout.bits));
            let mut hashes: Vec<_> =
                held.map(|(_, s)| s.records.get(key).map(Record::state_hash)).collect();
            hashes.dedup();
            if hashes.len() > 1 {
                let at = format!("replicas differ about record {key:?}");
                faults.entry("records are not the same on all replicas").or_default().push(at);
            }
        }
        for row in self.uses() {
            let mut held = self.replicas(row.0.partition(self.layout.bits));
            if let Some((host, _)) = held.find(|(_, shelf)| !shelf.refs.contains(row)) {
                let at = format!("node {host} lacks reference {row:?}");
                faults.entry("references are not on all replicas").or_default().push(at);
            }
        }
        faults
    }

    fn blobs(&self, mended: bool) -> Faults {
        let mut faults = Faults::new();
        let ids: BTreeSet<_> = self.uses().into_iter().map(|(id, ..)| id).collect();
        for id in ids {
            let copies = self.replicas(id.partition(self.layout.bits));
            let copies: Vec<(Host, Copy)> = copies
                .map(|(host, shelf)| (host, *shelf.blobs.get(id).unwrap_or(&Copy::NotHeld)))
                .collect();
            let some_good = copies.iter().any(|(_, copy)| *copy == Copy::Good);
            for (host, copy) in &copies {
                let what = match copy {
                    Copy::NoFile => "blobs are said to be held and have no file",
                    Copy::Bad if mended => "blobs are bad though their disk was mended",
                    Copy::Bad if !self.cluster.is_damaged(*host) => {
                        "blobs are bad on disks that nothing was done to"
                    }
                    Copy::NotHeld if some_good => "blobs are missing that another replica has",
                    Copy::Good | Copy::Bad | Copy::NotHeld => continue,
                };
                let at = format!("node {host}: {what}: {id}: {copies:?}");
                faults.entry(what).or_default().push(at);
            }
        }
        faults
    }
}

impl Shelf {
    async fn read(cluster: &Cluster, host: Host) -> Result<Self, String> {
        let fs = cluster.disk(host).boot();
        let (node, store) = stopped::open(&fs, &cluster.trace, PACKED_BYTES_MAX).await?;
        let shelf = Self::of(cluster, host, node, &store).await;
        store.close().await;
        fs.kill();
        shelf.map_err(|error| error.to_string())
    }

    async fn of(
        cluster: &Cluster,
        host: Host,
        node: NodeId,
        store: &Store,
    ) -> Result<Self, ReadError> {
        let halves = PartitionBits::new(1).expect("one bit is allowed");
        let mut records = BTreeMap::new();
        let mut rows: Vec<RefRow> = Vec::new();
        for half in 0..=1 {
            records.extend(store.scan_records(half, halves, Vec::new(), ALL).await?.rows);
            rows.extend(store.scan_refs(half, halves, Vec::new(), usize::MAX).await?);
        }
        let wanted = rows.iter().filter(|row| !row.dropped).map(|row| row.blob);
        let wanted: Vec<BlobId> = wanted.collect::<BTreeSet<_>>().into_iter().collect();
        let held = store.has_blobs(wanted.clone()).await?;
        let files = cluster.disk(host).blob_files();
        let files: BTreeSet<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
        let path =
            |id: &BlobId| Path::new("/data/blobs").join(PathTransform::default().blob_path(id));
        let paths: BTreeSet<PathBuf> = wanted.iter().map(path).collect();
        let mut blobs = BTreeMap::new();
        for (id, held) in wanted.into_iter().zip(held) {
            let copy = match held {
                false => Copy::NotHeld,
                true => match store.get_blob(id).await {
                    Ok(_) => Copy::Good,
                    Err(ReadError::Corrupt(_)) if !files.contains(&path(&id)) => Copy::NoFile,
                    Err(ReadError::Corrupt(_)) => Copy::Bad,
                    Err(error) => return Err(error),
                },
            };
            blobs.insert(id, copy);
        }
        let unwanted = files.difference(&paths).count();
        let live = rows.iter().filter(|row| !row.dropped);
        let refs = live.map(|row| (row.blob, row.vid, row.key)).collect();
        let layout = store.epoch().await?.map(|(state, _)| state);
        let certs = chain(store, layout.as_ref().map_or(0, |layout| layout.epoch)).await?;
        let governed = |cert: &&EpochCert| {
            let (admin, layout) = (Cluster::admin(), layout.as_ref());
            let cluster = layout.map(|layout| layout.cluster_id);
            cluster
                .is_some_and(|id| cert.proposal == cert.proposal.clone().authorized(&admin, |_| id))
        };
        let not_governed = certs.iter().filter(|cert| !governed(cert));
        let not_governed = not_governed.map(|cert| cert.proposal.epoch).collect();
        let chain = certs.iter().map(|cert| (cert.proposal.epoch, cert.proposal.hash())).collect();
        Ok(Self { host, node, layout, chain, not_governed, records, refs, blobs, unwanted })
    }
}

async fn chain(store: &Store, newest: u64) -> Result<Vec<EpochCert>, ReadError> {
    let mut chain = Vec::new();
    for generation in 0..=newest >> GENERATION_BITS {
        let first = (generation << GENERATION_BITS).max(1);
        for epoch in first..=newest.min(first + EPOCHS_MAX) {
            let cert = store.epoch_cert(epoch).await?.map(EpochCert::from_canonical);
            chain.extend(cert.and_then(Result::ok));
        }
    }
    Ok(chain)
}

/// Epochs of one generation, begun by hand, have their number above these bits.
const GENERATION_BITS: u32 = 32;
/// More epochs than any run decides in one generation.
const EPOCHS_MAX: u64 = 5_000;

/// Places told of, when someone wants to read them.
const SHOWN_MAX: usize = 10;

/// Everything at once: what a run stores is little.
const ALL: PageLimit = PageLimit { rows: usize::MAX, bytes: usize::MAX };
