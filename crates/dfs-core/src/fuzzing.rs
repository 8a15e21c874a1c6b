//! What the fuzz targets run: bytes in, and a panic when a promise does not hold.
//!
//! Not part of the API. The same functions are run by plain tests over `corpus/fuzz`.

use std::fmt::Debug;

use bech32::primitives::iter::Fe32IterExt;
use bech32::{Bech32m, Fe32, Hrp};

use crate::address::Address;
use crate::codec::Canonical;
use crate::hlc::Hlc;
use crate::id::{CertId, NODE_TEXT_PREFIX, NodeId, Vid};
use crate::layout::epoch::{EpochCert, EpochState, Loss, deciders_after};
use crate::name::FilePath;
use crate::node::member::NodeInfo;
use crate::record::refs::RefRow;
use crate::record::version::{Kind, Record, Version, merge, place_after};
use crate::record::writer::WriterCert;

/// Decodes, and checks that what decodes encodes to the very same bytes.
pub fn decode<T: Canonical + Debug>(bytes: &[u8]) -> Option<T> {
    let value = T::from_canonical(bytes.to_vec()).ok()?;
    assert_eq!(value.to_canonical(), bytes, "two encodings of {value:?}");
    Some(value)
}

/// Records, versions, certificates and reference rows.
pub fn record(bytes: &[u8]) {
    if let Some(record) = decode::<Record>(bytes) {
        assert_eq!(record.winner().is_none(), record.heads().next().is_none());
        assert!(record.conflicts() <= record.heads().count());
        // What a register accepted and the heads reflect is settled by the first.
        let merged = merge(&record, &record);
        assert!(merged.heads().eq(record.heads()));
        assert_eq!(merge(&merged, &merged), merged);
        let place = place_after(&record, Hlc(1), 1, 2, true);
        assert!(place.hlc > record.hlc_max() || record.hlc_max() == Hlc(u64::MAX));
        let _ = (record.is_bounded(), record.state_hash());
    }
    if let Some(version) = decode::<Version>(bytes) {
        let _ = (version.is_plausible(u64::MAX), version.hlc.unix_ms());
    }
    if let Some(cert) = decode::<WriterCert>(bytes) {
        let _ = cert.verify();
    }
    if let Some(row) = decode::<RefRow>(bytes) {
        assert_eq!(row.merged(row), row);
    }
}

/// Infos of nodes.
pub fn info(bytes: &[u8]) {
    if let Some(info) = decode::<NodeInfo>(bytes) {
        let _ = info.verify();
    }
}

/// Layouts and certificates: a state, after its length in two bytes, and what shall follow it.
pub fn epoch(bytes: &[u8]) {
    let (first, second) = split(bytes);
    let state = decode::<EpochState>(first);
    let cert = decode::<EpochCert>(second);
    if let Some(state) = &state {
        look_at(state);
    }
    if let (Some(state), Some(cert)) = (state, cert) {
        let (previous, proposer) = (cert.proposal.previous, cert.proposal.proposer);
        let loss = Loss::of(&state, cert.proposal.lost());
        let _ = state.follow(previous, &cert);
        let _ = loss.follow(&state, previous, &cert);
        let (known, certs) = (state.deciders(), std::slice::from_ref(&cert));
        let _ = deciders_after(state.cluster_id, known, certs, |_| true, |_| true);
        let proposed = state.propose([0; 32], cert.proposal.ops, proposer);
        for proposed in [proposed, loss.propose(&state, [0; 32], proposer)] {
            let Ok((next, _)) = proposed else { continue };
            assert!(next.epoch > state.epoch && next.generation >= state.generation);
            look_at(&next);
            // What voters may decide must fit what everyone else takes in.
            assert_eq!(EpochState::from_canonical(next.to_canonical()), Ok(next));
        }
    }
}

fn look_at(state: &EpochState) {
    assert!(state.copies_at_rest() <= state.members.len());
    assert!(state.moving() <= state.rows.len());
    for partition in 0..=u16::try_from(state.rows.len() - 1).expect("a partition is a u16") {
        let sets = state.write_sets(partition);
        assert!(sets.iter().all(|set| !set.is_empty()) && !state.read_set(partition).is_empty());
        let holders = state.holders(partition);
        let mut present = sets.iter().flatten().filter(|node| state.is_member(node));
        assert!(present.all(|node| holders.contains(node)));
    }
}

/// Names, addresses and the text of ids.
pub fn names(bytes: &[u8]) {
    node_text(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for path in [FilePath::parse(text), FilePath::parse_dir(text)].into_iter().flatten() {
        let joined: Vec<_> = path.components().collect();
        assert_eq!(joined.join("/"), path.as_str());
        assert!(joined.iter().all(|part| !matches!(*part, "." | "..") && !part.contains('\0')));
        assert_eq!(FilePath::parse_dir(path.as_str()), Ok(path));
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address.clone()));
        let _ = (address.is_loopback(), address.dial_host());
    }
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string(), text.trim().to_lowercase());
    }
}

/// A text with a right checksum over any content, which a fuzzer would not find.
fn node_text(content: &[u8]) {
    const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let digits = content.iter().take(100).map(|byte| DIGITS[usize::from(byte % 32)]);
    let digits = digits.map(|digit| Fe32::from_char(char::from(digit)));
    let digits = digits.map(|digit| digit.expect("all are digits of the code"));
    let prefix = Hrp::parse_unchecked(NODE_TEXT_PREFIX);
    let text: String = digits.with_checksum::<Bech32m>(&prefix).chars().collect();
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string(), text);
    }
}

/// Merging: two records of any content, and then a schedule of honest writers. Only what writers
/// saw for themselves makes merging associative, so that is not asked of any content.
pub fn merging(bytes: &[u8]) {
    let (first, second) = split(bytes);
    if let (Some(a), Some(b)) = (decode::<Record>(first), decode::<Record>(second)) {
        assert_eq!(merge(&a, &b), merge(&b, &a));
    }
    let mut world = World::default();
    for step in bytes.iter().take(STEPS_MAX) {
        world.step(*step);
    }
    world.check_laws();
}

/// Three replicas, each with a writer beside it.
#[derive(Default)]
struct World {
    replicas: [Record; 3],
    /// Each writer's actor less its number, and the last stamp it gave out.
    writers: [(u64, u64); 3],
    written: u8,
}

impl World {
    /// One byte says who does what: writes with or without a quorum, merges, or restarts.
    fn step(&mut self, step: u8) {
        let (at, other) = (usize::from(step % 3), usize::from(step / 3 % 3));
        let both = merge(&self.replicas[at], &self.replicas[other]);
        match step / 9 % 4 {
            0 => self.write(&both, &[at, other], true),
            1 => self.write(&self.replicas[at].clone(), &[at], false),
            2 => self.replicas[at] = both,
            _ => self.writers[at].0 += 3,
        }
    }

    /// At the end only: what begins a schedule is a schedule as well.
    fn check_laws(&self) {
        let [a, b, c] = &self.replicas;
        assert_eq!(merge(a, b), merge(b, a));
        assert_eq!(merge(a, a), *a);
        assert_eq!(merge(&merge(a, b), c), merge(a, &merge(b, c)));
        assert_eq!(merge(a, &merge(a, b)), merge(a, b));
    }

    fn write(&mut self, read: &Record, to: &[usize], quorum: bool) {
        let at = to[0];
        let (actor, stamp) = &mut self.writers[at];
        *stamp += 1;
        let (own, fresh) = (*actor * 3 + at as u64, FRESH + u64::from(self.written));
        let place = place_after(read, Hlc(*stamp), own, fresh, quorum);
        self.written += 1;
        let record = Record::of(Version {
            vid: Vid::new([self.written; 16]),
            actor: place.actor,
            hlc: place.hlc,
            context: place.context,
            kind: if self.written.is_multiple_of(2) { Kind::Dead } else { Kind::Live },
            sealed: Vec::new().into(),
            refs_root: None,
            chunks: 0,
            bytes_stored: 0,
            retained: Vec::new(),
            writer: CertId::new([0; 32]),
            signature: [0; 64],
        });
        for at in to {
            self.replicas[*at] = merge(&self.replicas[*at], &record);
        }
    }
}

/// Two values in one input: the length of the first in two bytes, then both.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return (bytes, &[]) };
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).unwrap_or((rest, &[]))
}

/// Fewer than a context may name, so that none is cut.
const STEPS_MAX: usize = 60;
/// Actors of writes without a quorum begin here, above those of all restarts.
const FRESH: u64 = 1000;
