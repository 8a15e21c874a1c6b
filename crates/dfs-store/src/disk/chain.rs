//! What a node keeps of the chain of layouts: the newest, certificates for those who lag, and what
//! it promised as a voter.

use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::layout::epoch::{EpochCert, EpochProposal, EpochState, begins_with};
use dfs_core::paxos::Register;

use crate::disk::index::Index;
use crate::disk::meta::{MetaReader, MetaTx};
use crate::error::{ReadError, WriteError};

/// The chain of layouts as an index keeps it.
pub(crate) struct Chain<'a>(pub(crate) &'a Index);

impl Chain<'_> {
    /// The newest epoch known here, with the proof that it was decided.
    pub(crate) async fn epoch(&self) -> Result<Option<(EpochState, EpochCert)>, ReadError> {
        let read = |meta: &MetaReader| {
            let (Some(state), Some(cert)) = (meta.state(EPOCH_STATE)?, meta.state(EPOCH_CERT)?)
            else {
                return Ok(None);
            };
            let state = EpochState::from_canonical(state).map_err(|_| damaged("epoch"))?;
            Ok(Some((state, EpochCert::from_canonical(cert).map_err(|_| damaged("epoch"))?)))
        };
        self.0.read(read).await
    }

    /// The certificate of one epoch, if kept here.
    pub(crate) async fn epoch_cert(&self, epoch: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.read(move |meta| meta.state(&epoch_key(epoch))).await
    }

    /// Returns certificates of epochs after `epoch` that changed the voters or admins, in order, at
    /// most `limit`. With them a node that lags far behind can check who decided the newest.
    pub(crate) async fn voter_certs(
        &self,
        epoch: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let after = voters_key(epoch.saturating_add(1));
        self.0.read(move |meta| meta.states(&after, VOTERS_END, limit)).await
    }

    /// Makes an epoch durable, with the voter changes `led` that lead to it. From then on this node
    /// speaks for no older one.
    pub(crate) async fn put_epoch(
        &self,
        state: &EpochState,
        cert: &EpochCert,
        led: &[EpochCert],
    ) -> Result<(), WriteError> {
        let (epoch, state) = (state.epoch, state.to_canonical());
        let changes = led.iter().chain([cert]).filter(|cert| cert.proposal.changes_deciders());
        let changes: Vec<_> =
            changes.map(|cert| (voters_key(cert.proposal.epoch), cert.to_canonical())).collect();
        let cert = cert.to_canonical();
        let work = move |tx: &mut MetaTx| {
            for (key, cert) in changes {
                tx.set_state(&key, &cert)?;
            }
            if let Some(old) = epoch.checked_sub(CERTS_KEPT) {
                tx.remove_state(&epoch_key(old))?;
            }
            tx.set_state(&epoch_key(epoch), &cert)?;
            tx.set_state(EPOCH_CERT, &cert)?;
            tx.set_state(EPOCH_STATE, &state)
        };
        self.0.commit(work).await
    }

    /// Changes what this node remembers, as a voter, of the decision of `epoch`. Returns the
    /// result, durable and therefore safe to tell others; `None` once a later epoch is voted on.
    ///
    /// An epoch that begins a generation counts as later once something was accepted for it: it may
    /// be decided then. A bare promise, as when an operator told one node of a loss and no other,
    /// keeps this node from no vote in the generation that goes on.
    pub(crate) async fn vote(
        &self,
        epoch: u64,
        change: impl FnOnce(&mut Register<EpochProposal>) + Send + 'static,
    ) -> Result<Option<Register<EpochProposal>>, WriteError> {
        let work = move |tx: &mut MetaTx| {
            let held = |key| Ok::<_, redb::Error>(tx.state(key)?.map(decode_vote).transpose());
            let (Ok(ordinary), Ok(beginning)) = (held(VOTE)?, held(VOTE_BEGINNING)?) else {
                return Ok(Err(WriteError::Damaged));
            };
            // An earlier program kept both under one key.
            let (ordinary, beginning) = match ordinary {
                Some(vote) if begins_with(vote.0) => (None, beginning.or(Some(vote))),
                ordinary => (ordinary, beginning),
            };
            if let Some((of, register)) = &beginning {
                tx.set_state(VOTE_BEGINNING, &encode_vote(*of, register))?;
            }
            let is_later = |of: &u64| *of > epoch;
            let may_be_decided =
                |(of, register): &Vote| is_later(of) && register.accepted().is_some();
            let (key, held) = match begins_with(epoch) {
                true => (VOTE_BEGINNING, beginning),
                false if beginning.as_ref().is_some_and(may_be_decided) => return Ok(Ok(None)),
                false => (VOTE, ordinary),
            };
            let mut register = match held {
                Some((of, _)) if is_later(&of) => return Ok(Ok(None)),
                Some((of, register)) if of == epoch => register,
                _ => Register::default(),
            };
            change(&mut register);
            tx.set_state(key, &encode_vote(epoch, &register))?;
            Ok(Ok(Some(register)))
        };
        self.0.commit(work).await?
    }
}

/// What a voter remembers, and of which epoch.
type Vote = (u64, Register<EpochProposal>);

fn encode_vote(epoch: u64, register: &Register<EpochProposal>) -> Vec<u8> {
    let mut out = Writer::default();
    out.u64(epoch);
    register.encode(&mut out);
    out.into_vec()
}

fn decode_vote(bytes: Vec<u8>) -> Result<Vote, DecodeError> {
    let mut input = Reader::new(bytes.into());
    let (epoch, register) = (input.u64()?, Register::decode(&mut input)?);
    input.finish()?;
    Ok((epoch, register))
}

fn damaged(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("the {what} kept here does not decode"))
}

fn epoch_key(epoch: u64) -> String {
    format!("epoch/{epoch:020}")
}

fn voters_key(epoch: u64) -> String {
    format!("voters/{epoch:020}")
}

const EPOCH_STATE: &str = "epoch-state";
const EPOCH_CERT: &str = "epoch-cert";
const VOTE: &str = "vote";
/// The same of an epoch that begins a generation.
const VOTE_BEGINNING: &str = "vote-beginning";
/// The first key after those of voter changes.
const VOTERS_END: &str = "voters0";
/// Certificates kept for nodes that lag; one that lags further takes a snapshot.
const CERTS_KEPT: u64 = 256;
