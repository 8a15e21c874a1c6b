//! Certificates of writers, and the check of what was signed under them.

use std::sync::Arc;

use dfs_core::codec::Canonical;
use dfs_core::id::{CertId, NodeId, RecordKey};
use dfs_core::record::version::Record;
use dfs_core::record::writer::{ForgedError, WriterCert};
use dfs_core::replica::conduct::Fault;
use dfs_p2p::message::{Priority, Request, Response};
use quick_cache::sync::Cache;
use tracing::debug;

use crate::error::Error;
use crate::rpc::{Ask, Rpc};

/// The certificates that this node knows; the store has them all.
pub(crate) struct Certs {
    rpc: Arc<Rpc>,
    known: Cache<CertId, Arc<WriterCert>>,
}

impl Certs {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        Self { rpc, known: Cache::new(CACHED_MAX) }
    }

    /// Checks every version and ballot of a record that came from `node`.
    pub(crate) async fn verify_record(
        &self,
        node: &NodeId,
        key: &RecordKey,
        record: &Record,
    ) -> Result<(), VerifyError> {
        if let Err(error) = record.verify_register(key) {
            debug!(peer = ?node, %error, "a forged ballot is refused");
            return Err(VerifyError::Forged(error));
        }
        for version in record.heads().chain(record.candidate()) {
            let cert = self.get(node, key, version.writer).await;
            let cert = cert.map_err(|error| VerifyError::NoCert(Box::new(error)))?;
            if let Err(error) = cert.verify_version(key, version) {
                debug!(peer = ?node, %error, "a forged version is refused");
                let replica = &self.rpc.replica;
                let about = *blake3::hash(&key.to_canonical()).as_bytes();
                replica.conduct.fault(replica.env.mono(), node, Fault::ForgedRecord, about);
                return Err(VerifyError::Forged(error));
            }
        }
        Ok(())
    }

    /// A certificate of whoever writes a record: from memory, the disk, or the node that named it.
    /// One of another vault is not kept: anyone can make those.
    pub(crate) async fn get(
        &self,
        node: &NodeId,
        key: &RecordKey,
        id: CertId,
    ) -> Result<Arc<WriterCert>, Error> {
        if let Some(cert) = self.known.get(&id) {
            return Ok(cert);
        }
        let replica = &self.rpc.replica;
        if let Some(cert) = replica.store.cert(id).await?.filter(|cert| cert.id() == id) {
            return Ok(self.remember(cert));
        }
        let unknown = |why: &str| Error::failed(node, why);
        if *node == replica.id {
            return Err(unknown("a certificate is missing"));
        }
        let ask = Ask::new(Priority::Records, Request::CertGet(id));
        let told = self.rpc.ask(node, 0, ask).await;
        let (Response::Cert(cert), _) = told.map_err(|error| unknown(&error.to_string()))? else {
            return Err(unknown("an unexpected answer"));
        };
        if cert.id() != id || cert.vault != key.vault || cert.verify().is_err() {
            return Err(unknown("it sent a forged certificate"));
        }
        replica.store.put_cert(&cert).await?;
        Ok(self.remember(*cert))
    }

    fn remember(&self, cert: WriterCert) -> Arc<WriterCert> {
        let cert = Arc::new(cert);
        self.known.insert(cert.id(), cert.clone());
        cert
    }
}

/// Why a record that a node sent does not count as genuine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// No writer of the vault signed it.
    #[error(transparent)]
    Forged(ForgedError),
    /// It could not be checked: the certificate that it names is not to be had.
    #[error("the writer's certificate could not be had: {0}")]
    NoCert(#[source] Box<Error>),
}

impl VerifyError {
    /// What it means for an operation that needed the node's answer.
    pub(crate) fn of(self, node: &NodeId) -> Error {
        Error::failed(node, self.to_string())
    }
}

/// Certificates kept in memory: one for each machine that writes, for a year.
const CACHED_MAX: usize = 1024;
