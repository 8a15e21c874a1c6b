//! Who this process writes as: its key and certificate, its actors, and one write of a name at a
//! time.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{CertId, RecordKey, Vid, hex};
use dfs_core::record::version::{Kind, Place, Record, Version, place_after};
use dfs_core::record::writer::WriterCert;
use dfs_env::{Bug, bug};
use dfs_store::WriteError;
use dfs_store::vault::keys::{VaultKey, VaultKeys};
use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use tracing::debug;

use super::Names;
use super::actors::Actors;
use super::history::{Draft, NewVersion};
use super::parts::{Part, superseded};
use crate::config::Mode;
use crate::error::{Error, StartServerError};
use crate::records::Written;
use crate::replica::{Replica, millis};

/// The right to write to one vault.
pub(crate) struct Writer {
    pub(super) replica: Arc<Replica>,
    pub(super) keys: Arc<VaultKeys>,
    key: SigningKey,
    /// Renewed long before it ends.
    cert: tokio::sync::Mutex<Arc<WriterCert>>,
    actors: Mutex<Actors>,
    locks: Vec<tokio::sync::Mutex<()>>,
}

impl Writer {
    /// Derives the vault's keys and makes sure that this node's writer key is certified.
    pub(crate) async fn open(
        replica: Arc<Replica>,
        vault: &VaultKey,
        key: SigningKey,
    ) -> Result<Self, StartServerError> {
        let keys = Arc::new(vault.derive());
        let known = replica.store.state(OWN_CERT).await?;
        let known = known.and_then(|bytes| WriterCert::from_canonical(bytes).ok());
        let public = key.verifying_key().to_bytes();
        let usable = known.filter(|cert| {
            cert.vault == keys.vault && cert.writer == public && cert.verify().is_ok()
        });
        let cert = match usable {
            Some(cert) => cert,
            None => new_cert(&replica, &keys, &key).await?,
        };
        let fresh = [0; 3].map(|_| replica.env.random_u64());
        Ok(Self {
            replica,
            keys,
            key,
            cert: tokio::sync::Mutex::new(Arc::new(cert)),
            actors: Mutex::new(Actors::new(fresh)),
            locks: (0..WRITE_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
        })
    }

    /// Held from the read of a record to the end of the write that follows it: two writes of one
    /// name by one actor must not overlap, or the later would seem to have seen the earlier.
    pub(super) async fn lock(&self, key: &RecordKey) -> tokio::sync::MutexGuard<'_, ()> {
        self.locks[self.lock_of(key)].lock().await
    }

    /// The same for several names: always in one order, so that two who do this wait for each other
    /// and not for ever.
    async fn lock_all(
        &self,
        keys: impl Iterator<Item = &RecordKey>,
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let places: BTreeSet<usize> = keys.map(|key| self.lock_of(key)).collect();
        let mut held = Vec::with_capacity(places.len());
        for at in places {
            held.push(self.locks[at].lock().await);
        }
        held
    }

    fn lock_of(&self, key: &RecordKey) -> usize {
        usize::from(key.tag.as_bytes()[0]) % self.locks.len()
    }

    /// The certificate to write under, renewed once less than half of its life is left.
    async fn cert(&self) -> Result<Arc<WriterCert>, WriteError> {
        let mut cert = self.cert.lock().await;
        let now = self.replica.unix_ms();
        if cert.not_after_unix_ms <= now + millis(CERT_LIFE / 2) {
            *cert = Arc::new(new_cert(&self.replica, &self.keys, &self.key).await?);
        }
        Ok(cert.clone())
    }

    /// Takes new actors: a write that a majority does not have may not be seen by the next read,
    /// and the same actor's next write would seem to have superseded it.
    fn renew_actors(&self) {
        *self.actors.lock() = Actors::new([0; 3].map(|_| self.replica.env.random_u64()));
    }

    /// A version that supersedes what was read.
    async fn version_after(
        &self,
        key: &RecordKey,
        read: &Record,
        quorum_read: bool,
        draft: Draft,
    ) -> Result<Version, Error> {
        let replica = &self.replica;
        let fresh = replica.env.random_u64();
        let (now, mut tick) = (replica.env.wall_ms(), replica.tick());
        let mut own = self.actors.lock().own();
        if !tick.is_plausible(now) {
            // The clock was set back by more than peers accept: until it has caught up, its stamps
            // do not rise by themselves.
            (tick, own) = (Hlc::from_unix_ms(now), fresh);
        }
        let mut place = place_after(read, tick, own, fresh, quorum_read);
        if quorum_read && place.actor == fresh {
            place.actor = self.actors.lock().lifted(key, place.hlc, fresh);
        }
        if bug(Bug::StampsGoBack) {
            place.hlc = Hlc::from_unix_ms(now);
        }
        let cert = self.cert().await?;
        Ok(self.sign(key, place, draft, cert.id()))
    }

    /// A version that supersedes what was read, for a conditional write. The name's lock is held,
    /// and whoever accepted an earlier one tells of it before this is made.
    pub(super) async fn conditional_after(
        &self,
        key: &RecordKey,
        read: &Record,
        draft: Draft,
    ) -> Result<Version, Error> {
        let replica = &self.replica;
        let (now, mut tick) = (replica.env.wall_ms(), replica.tick());
        let fresh = replica.env.random_u64();
        if !tick.is_plausible(now) {
            tick = Hlc::from_unix_ms(now);
        }
        let mut place = place_after(read, tick, fresh, fresh, true);
        place.actor = self.actors.lock().conditional(key, place.hlc, fresh);
        let cert = self.cert().await?;
        Ok(self.sign(key, place, draft, cert.id()))
    }

    fn sign(&self, key: &RecordKey, place: Place, draft: Draft, cert: CertId) -> Version {
        let mut version = Version {
            vid: draft.vid,
            actor: place.actor,
            hlc: place.hlc,
            context: place.context,
            kind: draft.kind,
            sealed: draft.sealed,
            refs_root: draft.refs_root,
            chunks: draft.chunks,
            bytes_stored: draft.bytes_stored,
            retained: draft.retained,
            writer: cert,
            signature: [0; 64],
        };
        version.signature = self.key.sign(&version.signed_bytes(key)).to_bytes();
        version
    }
}

impl Names {
    /// Waits for other writes of a name to end, and keeps them away until the guard is dropped.
    pub(crate) async fn lock(&self, key: &RecordKey) -> tokio::sync::MutexGuard<'_, ()> {
        self.writer.lock(key).await
    }

    /// The same for several names.
    pub(crate) async fn lock_all(
        &self,
        keys: impl Iterator<Item = &RecordKey>,
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        self.writer.lock_all(keys).await
    }

    /// Writes a version that supersedes what was read. The name's lock is held. Nothing has been
    /// stored anywhere, nor will be, after [`Error::ClockSkew`].
    pub(crate) async fn write_version(
        &self,
        key: RecordKey,
        read: &Record,
        quorum_read: bool,
        draft: Draft,
        mode: Mode,
    ) -> Result<Written, Error> {
        self.replica.need_right_clock().await?;
        let version = self.writer.version_after(&key, read, quorum_read, draft).await?;
        self.write_versions(vec![(key, version)], mode).await
    }

    /// Writes versions of names, those of one directory together. The locks of the names are held.
    /// After an error some may be written.
    pub(crate) async fn write_versions(
        &self,
        versions: Vec<(RecordKey, Version)>,
        mode: Mode,
    ) -> Result<Written, Error> {
        let name = |key: &RecordKey| hex(&key.to_canonical());
        for (key, version) in &versions {
            let (vid, actor, hlc, context) =
                (version.vid, version.actor, version.hlc.0, &version.context);
            let dead = version.kind == Kind::Dead;
            debug!(key = %name(key), %vid, actor, hlc, dead, ?context, "a version is made");
        }
        let made: Vec<_> = versions.iter().map(|(key, version)| (*key, version.vid)).collect();
        let records = versions.into_iter().map(|(key, version)| (key, Record::of(version)));
        let (written, by_majority) = self.records.put_new(records.collect(), mode).await?;
        if !by_majority && !bug(Bug::ActorNeverRenewed) {
            self.writer.renew_actors();
        }
        for (key, vid) in made {
            debug!(key = %name(&key), %vid, by_majority, "a version is acknowledged");
        }
        Ok(written)
    }
}

impl Names {
    /// Writes a version that supersedes what was read of its sort. The name's lock is held.
    pub(crate) async fn write_part(
        &self,
        key: RecordKey,
        (read, quorum_read): (&Record, bool),
        part: Part,
        new: NewVersion,
        mode: Mode,
    ) -> Result<Written, Error> {
        let version = self.part_version(key, (read, quorum_read), part, new, mode).await?;
        self.write_versions(vec![(key, version)], mode).await
    }

    /// A version that supersedes what was read of its sort, to be written while the name's lock is
    /// held.
    pub(crate) async fn part_version(
        &self,
        key: RecordKey,
        (read, quorum_read): (&Record, bool),
        part: Part,
        new: NewVersion,
        mode: Mode,
    ) -> Result<Version, Error> {
        let superseded = superseded(&self.keys, &key, read, part)?;
        // This process may have written what stays: its next stamp would seem to supersede it.
        let quorum_read = quorum_read && matches!(superseded, Cow::Borrowed(_));
        let draft = self.draft(key, &superseded, new, mode).await?;
        self.replica.need_right_clock().await?;
        self.writer.version_after(&key, &superseded, quorum_read, draft).await
    }

    /// Writes a version that supersedes only one head, and leaves what else there is; `None` where
    /// that is no head any more. The name's lock is held.
    pub(crate) async fn replace_head(
        &self,
        key: RecordKey,
        read: &Record,
        head: &Vid,
        new: NewVersion,
        mode: Mode,
    ) -> Result<Option<Written>, Error> {
        let Some(head) = read.head(head) else { return Ok(None) };
        let only = Record::of(head.clone());
        let draft = self.draft(key, &only, new, mode).await?;
        // As another actor: this process may have written the others.
        self.write_version(key, &only, false, draft, mode).await.map(Some)
    }
}

/// A certificate for this node's writer key, kept before it is used.
async fn new_cert(
    replica: &Replica,
    keys: &VaultKeys,
    key: &SigningKey,
) -> Result<WriterCert, WriteError> {
    let (store, now) = (&replica.store, replica.unix_ms());
    let public = key.verifying_key().to_bytes();
    let cert = WriterCert::issue(&keys.signing, public, now + millis(CERT_LIFE));
    store.put_cert(&cert).await?;
    store.put_state(OWN_CERT, cert.to_canonical()).await?;
    Ok(cert)
}

const OWN_CERT: &str = "own-cert";
/// How long a certificate is valid; it is renewed at half of that.
const CERT_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Names are spread over this many locks; two that share one only wait for each other.
const WRITE_LOCKS: usize = 256;
