//! Answering peers that ask for records, or bring some.

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{CertId, DirId, RecordKey, VaultId, dir_partition};
use dfs_core::layout::epoch::EpochState;
use dfs_core::node::clocks::Ahead;
use dfs_core::record::ballot::{Candidate, SignedBallot, Value};
use dfs_core::record::version::{Kind, Record};
use dfs_core::record::writer::ForgedError;
use dfs_core::replica::dir_changes::{ChangeMark, DirKey};
use dfs_env::{Bug, bug};
use dfs_p2p::Caller;
use dfs_p2p::message::{Code, Origin, Refusal, Response};
use dfs_store::disk::store::{Page, PageLimit};
use tracing::warn;

use super::Records;
use super::certs::VerifyError;
use crate::rpc::answer::{OTHER_VAULT, Told, done, read_refused, refusal, write_refused};
use crate::rpc::fence::Fence;

impl Records {
    /// Answers what records are here, or only the hashes of their states.
    pub(crate) async fn on_get(
        &self,
        fence: Fence<'_>,
        keys: Vec<RecordKey>,
        digest_only: bool,
    ) -> Told {
        fence.keys(keys.iter())?;
        let (store, asked) = (&self.replica.store, keys.clone());
        let response = if digest_only {
            let hashes = store.record_hashes(asked, READ_BYTES_MAX).await;
            Response::StateHashes(hashes.map_err(read_refused)?)
        } else {
            let records = store.first_records(asked, PAGE_BYTES_MAX).await.map_err(read_refused)?;
            let rows = keys.iter().copied().zip(records);
            page_of_records(Page { rows: rows.collect(), more: false })
        };
        // A move may have ended while the disk was read: then what is here says nothing any more.
        fence.again(&self.replica, |fence| fence.keys(keys.iter()))?;
        done(response)
    }

    /// Takes records in: all of them genuine, and new versions of this time.
    pub(crate) async fn on_put(
        &self,
        fence: Fence<'_>,
        from: Caller,
        records: Vec<(RecordKey, Record)>,
        origin: Origin,
    ) -> Told {
        let keys: Vec<_> = records.iter().map(|(key, _)| *key).collect();
        fence.keys(keys.iter())?;
        for (key, record) in &records {
            self.need_ours(fence.state, from, key)?;
            self.need_genuine(from, key, record).await?;
            if origin == Origin::Client {
                self.need_current(from, key, record).await?;
            }
        }
        let sifted = self.purged.sift(&from.node, records, fence.state).await;
        let (waiting, records) =
            sifted.map_err(|error| refusal(Code::Internal, error.to_string()))?;
        let store = &self.replica.store;
        let taken = match origin {
            Origin::Client => store.put_records(records).await,
            Origin::Repair => store.merge_records(records).await,
        };
        taken.map_err(write_refused)?;
        if !waiting.is_empty() {
            let why = "a version in it may have been deleted: rows are compared first";
            return Err(refusal(Code::Internal, why));
        }
        fence.again(&self.replica, |fence| fence.keys(keys.iter()))?;
        done(Response::Done)
    }

    /// Refuses what a storage member brings of a vault that the cluster is not for.
    fn need_ours(&self, state: &EpochState, from: Caller, key: &RecordKey) -> Result<(), Refusal> {
        if from.node == self.replica.id
            || state.may_bring(&from.node, &key.vault)
            || bug(Bug::AnyVaultKept)
        {
            return Ok(());
        }
        Err(refusal(Code::NotMember, OTHER_VAULT))
    }

    /// Refuses forged versions. Our own were signed a moment ago, what we repair with was verified.
    async fn need_genuine(
        &self,
        from: Caller,
        key: &RecordKey,
        record: &Record,
    ) -> Result<(), Refusal> {
        if from.node == self.replica.id {
            return Ok(());
        }
        let verified = self.certs.verify_record(&from.node, key, record).await;
        verified.map_err(|error| match error {
            VerifyError::Forged(_) => refusal(Code::BadSignature, error.to_string()),
            VerifyError::NoCert(_) => refusal(Code::Internal, error.to_string()),
        })
    }

    /// Refuses new versions whose stamp or certificate does not fit the time here.
    async fn need_current(
        &self,
        from: Caller,
        key: &RecordKey,
        record: &Record,
    ) -> Result<(), Refusal> {
        let fits = |now| record.heads().all(|head| head.is_plausible(now));
        let now = self.time_that(fits).await;
        if let Some(head) = record.heads().find(|head| !head.is_plausible(now)) {
            return Err(self.wrong_stamp(from, head.hlc, now));
        }
        for head in record.heads() {
            let cert = self.certs.get(&from.node, key, head.writer).await;
            if cert.is_ok_and(|cert| cert.not_after_unix_ms < now) {
                return Err(refusal(Code::BadSignature, "the certificate has ended"));
            }
        }
        Ok(())
    }

    /// The time; all clocks are asked before it is one that does not fit.
    async fn time_that(&self, fits: impl Fn(u64) -> bool) -> u64 {
        let now = self.replica.unix_ms();
        if fits(now) {
            return now;
        }
        self.replica.ask_clocks().await;
        self.replica.unix_ms()
    }

    /// What whoever sent a stamp that does not fit the time here is told.
    fn wrong_stamp(&self, from: Caller, stamp: Hlc, now_ms: u64) -> Refusal {
        let off = Ahead::of(stamp.unix_ms(), now_ms).than("the clock here");
        if self.replica.conduct.may_log(self.replica.env.mono(), &from.node, "stamp") {
            warn!(peer = ?from.node, "the stamp of a new version is {off}");
        }
        refusal(Code::ClockSkew, format!("the stamp is {off}"))
    }

    /// Phase one of a conditional write: promises, and answers what the record is then.
    pub(crate) async fn on_cas_prepare(
        &self,
        fence: Fence<'_>,
        key: RecordKey,
        ballot: SignedBallot,
    ) -> Told {
        need_signed(&ballot, ballot.verify(&key))?;
        let promise = move |record: &Record| {
            let mut record = record.clone();
            record.prepare(ballot);
            record
        };
        self.change(fence, key, None, promise).await
    }

    /// Phase two: accepts a version, or that there is none. The stamp of one that was `found` was
    /// looked at when a replica accepted it first: would it be refused now, the name could not be
    /// written before the clocks get there.
    pub(crate) async fn on_cas_accept(
        &self,
        fence: Fence<'_>,
        from: Caller,
        key: RecordKey,
        (ballot, candidate): (SignedBallot, Candidate),
        found: bool,
    ) -> Told {
        need_signed(&ballot, candidate.verify(&key, &ballot))?;
        if let Value::Open(version) = &candidate.value {
            let record = Record::of(version.as_ref().clone());
            self.need_genuine(from, &key, &record).await?;
            let fits = |now| found || version.is_not_ahead(now);
            let now = self.time_that(fits).await;
            if !fits(now) {
                return Err(self.wrong_stamp(from, version.hlc, now));
            }
        }
        let adds = match &candidate.value {
            // One that was found is there already, somewhere.
            Value::Open(version) if !found => Some(version.kind),
            _ => None,
        };
        let accept = move |record: &Record| {
            let mut record = record.clone();
            record.accept(ballot, candidate);
            record
        };
        self.change(fence, key, adds, accept).await
    }

    /// Changes the register of a record, and answers what the record is then.
    async fn change(
        &self,
        fence: Fence<'_>,
        key: RecordKey,
        adds: Option<Kind>,
        change: impl FnOnce(&Record) -> Record + Send + 'static,
    ) -> Told {
        fence.keys([key].iter())?;
        let record =
            self.replica.store.change_record(key, adds, change).await.map_err(write_refused)?;
        fence.again(&self.replica, |fence| fence.keys([key].iter()))?;
        done(Response::Records { records: vec![(key, record)], more: false })
    }

    /// Answers a page of a directory's records, for nodes of a version that asks for no digests.
    pub(crate) async fn on_dir_scan(
        &self,
        fence: Fence<'_>,
        vault: VaultId,
        dir: DirId,
        after: Option<[u8; 16]>,
    ) -> Told {
        let partition = dir_partition(&vault, &dir, fence.state.bits);
        fence.partition(partition)?;
        let limit = PageLimit { rows: PAGE_ROWS_MAX, bytes: PAGE_BYTES_MAX };
        let scanned = self.replica.store.scan_dir((vault, dir), after, limit).await;
        let scanned = scanned.map_err(read_refused)?;
        fence.again(&self.replica, |fence| fence.partition(partition))?;
        done(page_of_records(scanned))
    }

    /// Answers what has changed in a directory.
    pub(crate) async fn on_dir_changes(
        &self,
        fence: Fence<'_>,
        dir: DirKey,
        since: Option<ChangeMark>,
    ) -> Told {
        let partition = dir_partition(&dir.0, &dir.1, fence.state.bits);
        fence.partition(partition)?;
        let told = self.replica.store.dir_changes(dir, since).await.map_err(read_refused)?;
        fence.again(&self.replica, |fence| fence.partition(partition))?;
        done(Response::Changed { mark: told.0, changed: told.1 })
    }

    /// Answers a page of what is listed in a directory.
    pub(crate) async fn on_dir_digests(
        &self,
        fence: Fence<'_>,
        dir: DirKey,
        after: Option<[u8; 16]>,
    ) -> Told {
        let partition = dir_partition(&dir.0, &dir.1, fence.state.bits);
        fence.partition(partition)?;
        let page = self.replica.store.scan_dir_digests(dir, after, DIGESTS_IN_PAGE).await;
        let Page { rows, more } = page.map_err(read_refused)?;
        fence.again(&self.replica, |fence| fence.partition(partition))?;
        let next = rows.last().map(|(tag, _)| *tag.as_bytes()).filter(|_| more);
        let listed = rows.into_iter().filter_map(|(tag, digest)| Some((tag, digest?)));
        done(Response::Listed { digests: listed.collect(), next })
    }

    /// Answers with a certificate.
    pub(crate) async fn on_cert_get(&self, id: CertId) -> Told {
        match self.replica.store.cert(id).await.map_err(read_refused)? {
            Some(cert) => done(Response::Cert(Box::new(cert))),
            None => Err(refusal(Code::NotFound, "no such certificate")),
        }
    }
}

/// Refuses a ballot that no holder of the vault's key opened.
fn need_signed(ballot: &SignedBallot, verified: Result<(), ForgedError>) -> Result<(), Refusal> {
    let verified = match ballot {
        _ if bug(Bug::UnsignedBallotTaken) => Ok(()),
        SignedBallot::Unsigned(_) => Err(ForgedError::Unsigned),
        SignedBallot::Signed(..) => verified,
    };
    verified.map_err(|error| refusal(Code::BadSignature, error.to_string()))
}

/// As many records, in order, as fit one answer; at least one.
fn page_of_records(page: Page<(RecordKey, Record)>) -> Response {
    let mut bytes = 0;
    let mut records = Vec::new();
    for (key, record) in page.rows {
        bytes += record.to_canonical().len() + RecordKey::LEN;
        if bytes > PAGE_BYTES_MAX && !records.is_empty() {
            return Response::Records { records, more: true };
        }
        records.push((key, record));
    }
    Response::Records { records, more: page.more }
}

/// Bytes of records in one answer: within a frame, with room for one record of any size.
const PAGE_BYTES_MAX: usize = 128 * 1024;
/// Bytes of records that are read to answer with their hashes: those of the first records are told.
const READ_BYTES_MAX: usize = dfs_store::disk::store::PAGE_BYTES_MAX;
/// Rows looked at for one page of digests: 96 KiB of an answer.
pub(super) const DIGESTS_IN_PAGE: PageLimit =
    PageLimit { rows: dfs_p2p::KEYS_MAX, bytes: dfs_store::disk::store::PAGE_BYTES_MAX };
/// Records looked at for one page of a directory.
const PAGE_ROWS_MAX: usize = 256;
