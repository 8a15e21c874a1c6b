//! Generated protobuf types, and what they mean: the only file that turns one into the other.

use std::time::Duration;

use bytes::Bytes;
use dfs_core::codec::{Canonical, DecodeError};
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, CertId, NodeId, Partition, RecordKey};
use dfs_core::layout::epoch::{EpochCert, EpochProposal, EpochState};
use dfs_core::layout::forming::FOUNDERS_MAX;
use dfs_core::node::directory::NODES_MAX;
use dfs_core::node::later_life::{LaterLife, StillRuns};
use dfs_core::node::member::NodeInfo;
use dfs_core::paxos::{Ballot, Register};
use dfs_core::record::ballot::{Candidate, SignedBallot};
use dfs_core::record::version::Record;
use dfs_core::record::writer::WriterCert;
use dfs_core::replica::possession::{BLOBS_AT_ONCE, Proof};
use dfs_core::replica::sync::{Root, Table};

use crate::message::{Answer, Call, Code, Gossip, Origin, Priority, Refusal, Request, Response};
use crate::wire_dirs;

#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::all,
    unreachable_pub,
    unnameable_types,
    reason = "generated; documented in the .proto files"
)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/dfs.v1.rs"));
}

use proto::open::Request as Ask;
use proto::reply::Answer as Told;

/// Why a message is not valid: the sender is broken or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not protobuf, or not this message.
    #[error("not a protobuf message of this kind")]
    Protobuf,
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// An enum value this version does not know.
    #[error("field {0} has an unknown value")]
    Unknown(&'static str),
    /// A list is longer than its limit.
    #[error("field {0} has too many items")]
    TooMany(&'static str),
    /// A canonical value inside does not decode.
    #[error("a value {0}")]
    Value(#[from] DecodeError),
}

pub(crate) type Wire<T> = Result<T, WireError>;

pub(crate) fn canonical<T: Canonical>(value: &T) -> Bytes {
    value.to_canonical().into()
}

fn all_canonical<T: Canonical>(values: &[T]) -> Vec<Bytes> {
    values.iter().map(canonical).collect()
}

fn parse_all<T: Canonical>(name: &'static str, max: usize, values: Vec<Bytes>) -> Wire<Vec<T>> {
    at_most(name, max, &values)?;
    values.into_iter().map(|bytes| Ok(T::from_canonical(bytes)?)).collect()
}

pub(crate) fn at_most<T>(name: &'static str, max: usize, items: &[T]) -> Wire<()> {
    if items.len() > max { Err(WireError::TooMany(name)) } else { Ok(()) }
}

fn hash(bytes: &[u8]) -> Wire<[u8; 32]> {
    Ok(*BlobId::from_slice(bytes)?.as_bytes())
}

fn code_of(value: i32) -> Wire<Code> {
    Code::from_wire(value).ok_or(WireError::Unknown("code"))
}

/// Why a connection ends, as one end tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goodbye {
    pub(crate) code: Code,
    pub(crate) text: String,
    /// With [`Code::Retired`]: what proves it.
    pub(crate) later_life: Option<Box<LaterLife>>,
}

pub(crate) fn go_away(code: Code, message: impl Into<String>) -> proto::GoAway {
    proto::GoAway { code: code as i32, message: message.into(), later_life: Bytes::new() }
}

/// Turns a start of a node away that must not take part.
pub(crate) fn retired(message: impl Into<String>, proof: &LaterLife) -> proto::GoAway {
    proto::GoAway { later_life: canonical(proof), ..go_away(Code::Retired, message) }
}

pub(crate) fn parse_go_away(message: proto::GoAway) -> Goodbye {
    let text = message.message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX);
    let code = Code::from_wire(message.code).unwrap_or(Code::Internal);
    let later_life = Some(message.later_life).filter(|_| code == Code::Retired);
    let later_life = later_life.and_then(|proof| LaterLife::from_canonical(proof).ok());
    Goodbye { code, text: text.collect(), later_life: later_life.map(Box::new) }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).expect("a body is far below 4 GiB")
}

pub(crate) fn open(call: &Call) -> proto::Open {
    proto::Open {
        priority: call.priority as u32,
        deadline_ms: millis(call.deadline),
        epoch: call.epoch,
        body_bytes: length(&call.body),
        request: Some(ask(&call.request)),
    }
}

/// Everything of a call but its body.
pub(crate) fn parse_open(open: proto::Open) -> Wire<Call> {
    Ok(Call {
        priority: match open.priority {
            0 => Priority::Layout,
            1 => Priority::Records,
            2 => Priority::Chunks,
            3 => Priority::Background,
            _ => return Err(WireError::Unknown("priority")),
        },
        deadline: Duration::from_millis(open.deadline_ms.into()),
        epoch: open.epoch,
        request: parse_ask(open.request.ok_or(WireError::Missing("request"))?)?,
        body: Bytes::new(),
        answer_bytes_max: 0,
    })
}

fn ask(request: &Request) -> Ask {
    match request {
        Request::Gossip(gossip) => Ask::Gossip(gossip_out(gossip)),
        Request::Join(info) => Ask::Join(proto::JoinRequest { info: canonical(info.as_ref()) }),
        Request::GenesisOffer(nodes) => {
            Ask::GenesisOffer(proto::GenesisOffer { node_id: all_canonical(nodes) })
        }
        Request::GenesisWithdraw => Ask::GenesisWithdraw(proto::GenesisWithdraw {}),
        Request::StillRuns { challenge } => {
            Ask::StillRuns(proto::StillRunsAsk { challenge: Bytes::copy_from_slice(challenge) })
        }
        Request::ChainGet { from } => Ask::ChainGet(proto::ChainGet { from: *from }),
        Request::EpochPrepare { epoch, ballot } => {
            Ask::EpochPrepare(proto::EpochPrepare { epoch: *epoch, ballot: canonical(ballot) })
        }
        Request::EpochAccept { ballot, proposal } => Ask::EpochAccept(proto::EpochAccept {
            ballot: canonical(ballot),
            proposal: canonical(proposal.as_ref()),
        }),
        Request::EpochDecided(cert) => {
            Ask::EpochDecided(proto::EpochDecided { cert: canonical(cert.as_ref()) })
        }
        Request::RecordGet { keys, digest_only } => Ask::RecordGet(proto::RecordGet {
            keys: all_canonical(keys),
            digest_only: *digest_only,
        }),
        Request::RecordPut { records, origin } => Ask::RecordPut(proto::RecordPut {
            records: records_out(records),
            origin: match origin {
                Origin::Client => proto::Origin::Client as i32,
                Origin::Repair => proto::Origin::Repair as i32,
            },
        }),
        Request::CasPrepare { key, ballot } => {
            Ask::CasPrepare(proto::CasPrepare { key: canonical(key), ballot: canonical(ballot) })
        }
        Request::CasAccept { key, ballot, candidate, found } => Ask::CasAccept(proto::CasAccept {
            key: canonical(key),
            ballot: canonical(ballot),
            candidate: canonical(candidate.as_ref()),
            found: *found,
        }),
        Request::DirScan { vault, dir, after } => {
            Ask::DirScan(wire_dirs::scan(*vault, *dir, *after))
        }
        Request::DirChanges { dir, since } => Ask::DirChanges(wire_dirs::changes(*dir, *since)),
        Request::DirDigests { dir, after } => Ask::DirDigests(wire_dirs::digests(*dir, *after)),
        Request::CertGet(id) => Ask::CertGet(proto::CertGet { id: canonical(id) }),
        Request::RefAdd(rows) => Ask::RefAdd(proto::RefAdd { rows: all_canonical(rows) }),
        Request::ChunkPut(id) => Ask::ChunkPut(proto::ChunkPut { id: canonical(id) }),
        Request::ChunkGet(id) => Ask::ChunkGet(proto::ChunkGet { id: canonical(id) }),
        Request::ChunkHas(ids) => Ask::ChunkHas(proto::ChunkHas { ids: all_canonical(ids) }),
        Request::ReportCorrupt(id) => {
            Ask::ReportCorrupt(proto::ReportCorrupt { id: canonical(id) })
        }
        Request::ChunkProve { nonce, ids } => Ask::ChunkProve(proto::ChunkProve {
            nonce: Bytes::copy_from_slice(nonce),
            ids: all_canonical(ids),
        }),
        Request::RefsEnded(uses) => Ask::RefsEnded(proto::RefsEnded { uses: all_canonical(uses) }),
        Request::RefsForget(uses) => {
            Ask::RefsForget(proto::RefsForget { uses: all_canonical(uses) })
        }
        Request::ChunksNeeded(ids) => {
            Ask::ChunksNeeded(proto::ChunksNeeded { ids: all_canonical(ids) })
        }
        Request::RecordsForget(records) => {
            Ask::RecordsForget(proto::RecordsForget { records: hashes_out(records) })
        }
        Request::SyncRoots { table, roots } => Ask::SyncRoots(proto::SyncRoots {
            table: table_out(*table),
            roots: roots.iter().map(root_out).collect(),
        }),
        Request::SyncScan { table, partition, after } => Ask::SyncScan(proto::SyncScan {
            table: table_out(*table),
            partition: (*partition).into(),
            after: after.clone(),
        }),
    }
}

fn parse_ask(ask: Ask) -> Wire<Request> {
    Ok(match ask {
        Ask::Gossip(gossip) => Request::Gossip(parse_gossip(gossip)?),
        Ask::Join(join) => Request::Join(Box::new(NodeInfo::from_canonical(join.info)?)),
        Ask::GenesisOffer(offer) => {
            Request::GenesisOffer(parse_all("node_id", FOUNDERS_MAX, offer.node_id)?)
        }
        Ask::GenesisWithdraw(_) => Request::GenesisWithdraw,
        Ask::StillRuns(ask) => Request::StillRuns { challenge: hash(&ask.challenge)? },
        Ask::ChainGet(get) => Request::ChainGet { from: get.from },
        Ask::EpochPrepare(ask) => {
            Request::EpochPrepare { epoch: ask.epoch, ballot: Ballot::from_canonical(ask.ballot)? }
        }
        Ask::EpochAccept(ask) => Request::EpochAccept {
            ballot: Ballot::from_canonical(ask.ballot)?,
            proposal: Box::new(EpochProposal::from_canonical(ask.proposal)?),
        },
        Ask::EpochDecided(decided) => {
            Request::EpochDecided(Box::new(EpochCert::from_canonical(decided.cert)?))
        }
        Ask::RecordGet(get) => Request::RecordGet {
            keys: parse_all("keys", KEYS_MAX, get.keys)?,
            digest_only: get.digest_only,
        },
        Ask::RecordPut(put) => Request::RecordPut {
            records: parse_records(put.records)?,
            origin: match proto::Origin::try_from(put.origin) {
                Ok(proto::Origin::Client) => Origin::Client,
                Ok(proto::Origin::Repair) => Origin::Repair,
                _ => return Err(WireError::Unknown("origin")),
            },
        },
        Ask::CasPrepare(ask) => Request::CasPrepare {
            key: RecordKey::from_canonical(ask.key)?,
            ballot: SignedBallot::from_canonical(ask.ballot)?,
        },
        Ask::CasAccept(ask) => Request::CasAccept {
            key: RecordKey::from_canonical(ask.key)?,
            ballot: SignedBallot::from_canonical(ask.ballot)?,
            candidate: Box::new(Candidate::from_canonical(ask.candidate)?),
            found: ask.found,
        },
        Ask::DirScan(asked) => wire_dirs::parse_scan(&asked)?,
        Ask::DirChanges(asked) => wire_dirs::parse_changes(&asked)?,
        Ask::DirDigests(asked) => wire_dirs::parse_digests(&asked)?,
        Ask::CertGet(get) => Request::CertGet(CertId::from_slice(&get.id)?),
        Ask::RefAdd(add) => Request::RefAdd(parse_all("rows", KEYS_MAX, add.rows)?),
        Ask::ChunkPut(put) => Request::ChunkPut(BlobId::from_slice(&put.id)?),
        Ask::ChunkGet(get) => Request::ChunkGet(BlobId::from_slice(&get.id)?),
        Ask::ChunkHas(has) => Request::ChunkHas(parse_all("ids", KEYS_MAX, has.ids)?),
        Ask::ReportCorrupt(report) => Request::ReportCorrupt(BlobId::from_slice(&report.id)?),
        Ask::ChunkProve(asked) => Request::ChunkProve {
            nonce: hash(&asked.nonce)?,
            ids: parse_all("ids", BLOBS_AT_ONCE, asked.ids)?,
        },
        Ask::RefsEnded(asked) => Request::RefsEnded(parse_all("uses", KEYS_MAX, asked.uses)?),
        Ask::RefsForget(asked) => Request::RefsForget(parse_all("uses", KEYS_MAX, asked.uses)?),
        Ask::ChunksNeeded(asked) => Request::ChunksNeeded(parse_all("ids", KEYS_MAX, asked.ids)?),
        Ask::RecordsForget(asked) => {
            Request::RecordsForget(parse_hashes("records", asked.records)?)
        }
        Ask::SyncRoots(sync) => {
            at_most("roots", PARTITIONS_MAX, &sync.roots)?;
            Request::SyncRoots {
                table: parse_table(sync.table)?,
                roots: sync.roots.into_iter().map(parse_root).collect::<Wire<_>>()?,
            }
        }
        Ask::SyncScan(scan) => Request::SyncScan {
            table: parse_table(scan.table)?,
            partition: parse_partition(scan.partition)?,
            after: scan.after,
        },
    })
}

pub(crate) fn reply(answer: &Answer) -> proto::Reply {
    let mut reply = proto::Reply {
        epoch: answer.epoch,
        body_bytes: length(&answer.body),
        ..proto::Reply::default()
    };
    match &answer.result {
        Ok(response) => reply.answer = told(response),
        Err(refusal) => {
            reply.code = refusal.code as i32;
            reply.message.clone_from(&refusal.message);
            reply.retry_after_ms = refusal.retry_after.map_or(0, millis);
        }
    }
    reply
}

/// Everything of an answer but its body.
pub(crate) fn parse_reply(reply: proto::Reply) -> Wire<Answer> {
    let result = match code_of(reply.code)? {
        Code::Ok => Ok(reply.answer.map_or(Ok(Response::Done), parse_told)?),
        code => Err(Refusal {
            code,
            message: reply
                .message
                .chars()
                .filter(|c| !c.is_control())
                .take(MESSAGE_CHARS_MAX)
                .collect(),
            retry_after: (reply.retry_after_ms > 0)
                .then(|| Duration::from_millis(reply.retry_after_ms.into())),
        }),
    };
    Ok(Answer { result, epoch: reply.epoch, body: Bytes::new() })
}

fn told(response: &Response) -> Option<Told> {
    Some(match response {
        Response::Done => return None,
        Response::Gossip(gossip) => Told::Gossip(gossip_out(gossip)),
        Response::StillRuns(said) => Told::StillRuns(proto::StillRuns { said: canonical(said) }),
        Response::Chain { snapshot, certs } => Told::Chain(proto::Chain {
            snapshot: snapshot.as_ref().map(|state| canonical(state.as_ref())).unwrap_or_default(),
            certs: all_canonical(certs),
        }),
        Response::EpochRegister { register, signature } => {
            Told::EpochRegister(proto::EpochRegister {
                register: canonical(register.as_ref()),
                signature: signature.map_or_else(Bytes::new, |s| Bytes::copy_from_slice(&s)),
            })
        }
        Response::Records { records, more } => Told::Records(proto::RecordSet {
            records: records_out(records),
            more: *more,
            ..proto::RecordSet::default()
        }),
        Response::StateHashes(hashes) => Told::Records(proto::RecordSet {
            state_hashes: hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
            ..proto::RecordSet::default()
        }),
        Response::Changed { mark, changed } => {
            Told::Changed(wire_dirs::changed(*mark, changed.as_deref()))
        }
        Response::Listed { digests, next } => Told::Listed(wire_dirs::listed(digests, *next)),
        Response::Cert(cert) => Told::Cert(proto::CertFound { cert: canonical(cert.as_ref()) }),
        Response::Held(held) => Told::Held(bitmap(held)),
        Response::Proofs(proofs) => {
            Told::Proofs(proto::Proofs { proofs: proofs.iter().map(proof_out).collect() })
        }
        Response::Differing { partitions, floors } => Told::Differing(proto::Partitions {
            partition: partitions.iter().map(|partition| u32::from(*partition)).collect(),
            floors: floors.iter().map(floor_out).collect(),
        }),
        Response::Rows { hashes, refs, last, more } => Told::Rows(proto::SyncRows {
            hashes: hashes_out(hashes),
            refs: all_canonical(refs),
            last: last.clone(),
            more: *more,
        }),
    })
}

fn parse_told(told: Told) -> Wire<Response> {
    Ok(match told {
        Told::Gossip(gossip) => Response::Gossip(parse_gossip(gossip)?),
        Told::Chain(chain) => Response::Chain {
            snapshot: match chain.snapshot.len() {
                0 => None,
                _ => Some(Box::new(EpochState::from_canonical(chain.snapshot)?)),
            },
            certs: parse_all("certs", CERTS_MAX, chain.certs)?,
        },
        Told::StillRuns(told) => Response::StillRuns(StillRuns::from_canonical(told.said)?),
        Told::EpochRegister(told) => Response::EpochRegister {
            register: Box::new(Register::from_canonical(told.register)?),
            signature: match told.signature.len() {
                0 => None,
                _ => Some(
                    <[u8; 64]>::try_from(told.signature.as_ref())
                        .map_err(|_| DecodeError::Invalid("signature"))?,
                ),
            },
        },
        Told::Records(set) if set.state_hashes.is_empty() => {
            Response::Records { records: parse_records(set.records)?, more: set.more }
        }
        Told::Records(set) => {
            at_most("state_hashes", KEYS_MAX, &set.state_hashes)?;
            let hashes = set.state_hashes.iter().map(|bytes| hash(bytes));
            Response::StateHashes(hashes.collect::<Wire<_>>()?)
        }
        Told::Changed(found) => wire_dirs::parse_changed(&found)?,
        Told::Listed(found) => wire_dirs::parse_listed(&found)?,
        Told::Cert(found) => Response::Cert(Box::new(WriterCert::from_canonical(found.cert)?)),
        Told::Held(bits) => Response::Held(parse_bitmap(&bits)?),
        Told::Proofs(shown) => {
            at_most("proofs", BLOBS_AT_ONCE, &shown.proofs)?;
            Response::Proofs(shown.proofs.into_iter().map(parse_proof).collect::<Wire<_>>()?)
        }
        Told::Differing(found) => {
            at_most("partition", PARTITIONS_MAX, &found.partition)?;
            at_most("floors", PARTITIONS_MAX, &found.floors)?;
            let partitions = found.partition.into_iter().map(parse_partition);
            let floors = found.floors.into_iter().map(parse_floor);
            Response::Differing {
                partitions: partitions.collect::<Wire<_>>()?,
                floors: floors.collect::<Wire<_>>()?,
            }
        }
        Told::Rows(rows) => Response::Rows {
            hashes: parse_hashes("hashes", rows.hashes)?,
            refs: parse_all("refs", KEYS_MAX, rows.refs)?,
            last: rows.last,
            more: rows.more,
        },
    })
}

fn floor_out((partition, stamp): &(Partition, Hlc)) -> proto::Floor {
    proto::Floor { partition: u32::from(*partition), stamp: stamp.0 }
}

fn parse_floor(floor: proto::Floor) -> Wire<(Partition, Hlc)> {
    Ok((parse_partition(floor.partition)?, Hlc(floor.stamp)))
}

fn gossip_out(gossip: &Gossip) -> proto::GossipSync {
    let digest = gossip
        .digest
        .iter()
        .map(|(node, seq)| proto::InfoDigest { node_id: canonical(node), seq: seq.0 });
    proto::GossipSync {
        digest: digest.collect(),
        infos: all_canonical(&gossip.infos),
        want_reply: gossip.want_reply,
    }
}

fn parse_gossip(gossip: proto::GossipSync) -> Wire<Gossip> {
    at_most("digest", NODES_MAX, &gossip.digest)?;
    let digest = gossip
        .digest
        .into_iter()
        .map(|entry| Ok((NodeId::from_slice(&entry.node_id)?, Hlc(entry.seq))));
    Ok(Gossip {
        digest: digest.collect::<Wire<_>>()?,
        infos: parse_all("infos", NODES_MAX, gossip.infos)?,
        want_reply: gossip.want_reply,
    })
}

fn records_out(records: &[(RecordKey, Record)]) -> Vec<proto::KeyedRecord> {
    let keyed = |(key, record): &(RecordKey, Record)| proto::KeyedRecord {
        key: canonical(key),
        record: canonical(record),
    };
    records.iter().map(keyed).collect()
}

fn parse_records(records: Vec<proto::KeyedRecord>) -> Wire<Vec<(RecordKey, Record)>> {
    at_most("records", KEYS_MAX, &records)?;
    let keyed = |found: proto::KeyedRecord| {
        Ok((RecordKey::from_canonical(found.key)?, Record::from_canonical(found.record)?))
    };
    records.into_iter().map(keyed).collect()
}

fn hashes_out(hashes: &[(RecordKey, [u8; 32])]) -> Vec<proto::RowHash> {
    let row = |(key, hash): &(RecordKey, [u8; 32])| proto::RowHash {
        key: canonical(key),
        state_hash: Bytes::copy_from_slice(hash),
    };
    hashes.iter().map(row).collect()
}

fn parse_hashes(name: &'static str, rows: Vec<proto::RowHash>) -> Wire<Vec<(RecordKey, [u8; 32])>> {
    at_most(name, KEYS_MAX, &rows)?;
    let row =
        |row: proto::RowHash| Ok((RecordKey::from_canonical(row.key)?, hash(&row.state_hash)?));
    rows.into_iter().map(row).collect()
}

fn table_out(table: Table) -> i32 {
    match table {
        Table::Records => proto::Table::Records as i32,
        Table::Refs => proto::Table::Refs as i32,
    }
}

fn parse_table(table: i32) -> Wire<Table> {
    match proto::Table::try_from(table) {
        Ok(proto::Table::Records) => Ok(Table::Records),
        Ok(proto::Table::Refs) => Ok(Table::Refs),
        _ => Err(WireError::Unknown("table")),
    }
}

fn root_out((partition, root): &(Partition, Root)) -> proto::RootEntry {
    proto::RootEntry {
        partition: (*partition).into(),
        sum: Bytes::copy_from_slice(&root.sum),
        count: root.count,
    }
}

fn parse_root(entry: proto::RootEntry) -> Wire<(Partition, Root)> {
    let root = Root { sum: hash(&entry.sum)?, count: entry.count };
    Ok((parse_partition(entry.partition)?, root))
}

fn parse_partition(partition: u32) -> Wire<Partition> {
    Partition::try_from(partition).map_err(|_| WireError::Unknown("partition"))
}

fn bitmap(held: &[bool]) -> proto::Bitmap {
    let mut bits = vec![0u8; held.len().div_ceil(8)];
    for (at, held) in held.iter().enumerate() {
        bits[at / 8] |= u8::from(*held) << (at % 8);
    }
    let count = u32::try_from(held.len()).expect("a bitmap is small");
    proto::Bitmap { bits: bits.into(), count }
}

fn parse_bitmap(bitmap: &proto::Bitmap) -> Wire<Vec<bool>> {
    let count = bitmap.count as usize;
    if count > KEYS_MAX || bitmap.bits.len() != count.div_ceil(8) {
        return Err(WireError::TooMany("bits"));
    }
    Ok((0..count).map(|at| bitmap.bits[at / 8] >> (at % 8) & 1 == 1).collect())
}

fn proof_out(proof: &Proof) -> proto::Proof {
    match proof {
        Proof::Digest(digest) => {
            proto::Proof { digest: Bytes::copy_from_slice(digest), unread: false }
        }
        Proof::HaveNot => proto::Proof::default(),
        Proof::Unread => proto::Proof { digest: Bytes::new(), unread: true },
    }
}

fn parse_proof(proof: proto::Proof) -> Wire<Proof> {
    match (proof.digest.is_empty(), proof.unread) {
        (true, false) => Ok(Proof::HaveNot),
        (true, true) => Ok(Proof::Unread),
        (false, _) => Ok(Proof::Digest(hash(&proof.digest)?)),
    }
}

/// Ids, keys or rows in one message: 32-byte ids fill half a control frame.
pub const KEYS_MAX: usize = 4096;
/// Every partition a layout can have.
const PARTITIONS_MAX: usize = 1 << 16;
/// Epochs in one answer; the caller asks again for more.
const CERTS_MAX: usize = 64;
/// A peer's explanation in our log is cut here.
const MESSAGE_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests;
