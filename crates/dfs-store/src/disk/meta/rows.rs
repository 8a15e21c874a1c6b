//! The tables of the index, the keys of their rows, and decoding rows.

use dfs_core::codec::Canonical;
use dfs_core::hlc::Hlc;
use dfs_core::id::{BlobId, Partition, PartitionBits, RecordKey};
use dfs_core::record::refs::{RefRow, Use};
use dfs_core::record::version::Record;
use dfs_core::replica::sync::{Root, Table};
use dfs_env::{Bug, bug};
use redb::{TableDefinition, TableHandle};

use super::MetaResult;

pub(super) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(crate) const RECORDS: Rows = TableDefinition::new("records");
pub(crate) const REFS: Rows = TableDefinition::new("uses");
pub(crate) const BLOBS: Rows = TableDefinition::new("blobs");
/// The bytes of those blobs that lie in the index.
pub(crate) const PACKED: Rows = TableDefinition::new("packed");
pub(crate) const SUMS: Rows = TableDefinition::new("sums");
pub(super) const CERTS: Rows = TableDefinition::new("certs");
pub(super) const STATE: Rows = TableDefinition::new("state");

/// The rows whose sums are kept for a table that replicas compare.
pub(super) fn rows_of(table: Table) -> Rows {
    match table {
        Table::Records => RECORDS,
        Table::Refs => REFS,
    }
}

/// The row key of a record: location, vault, directory, tag.
pub fn record_row(key: &RecordKey) -> Vec<u8> {
    let mut row = key.partition(LOCATION_BITS).to_be_bytes().to_vec();
    row.extend_from_slice(&key.to_canonical());
    row
}

/// The row key of a reference: location, blob, version, record.
pub fn ref_row(of: &Use) -> Vec<u8> {
    let mut row = refs_prefix(&of.blob);
    row.extend_from_slice(of.vid.as_bytes());
    if !bug(Bug::UsesEndTogether) {
        row.extend_from_slice(&of.key.to_canonical());
    }
    row
}

/// What the row keys of all references of a blob begin with.
pub(super) fn refs_prefix(blob: &BlobId) -> Vec<u8> {
    let mut row = blob.partition(LOCATION_BITS).to_be_bytes().to_vec();
    row.extend_from_slice(blob.as_bytes());
    row
}

/// The partition of a row whose key is whole.
pub(super) fn partition_of_row(row: &[u8], bits: PartitionBits) -> Partition {
    u16::from_be_bytes([row[0], row[1]]) >> (16 - bits.get())
}

pub(super) fn partition_range(
    partition: Partition,
    bits: PartitionBits,
    after: &[u8],
) -> (Vec<u8>, Option<Vec<u8>>) {
    let shift = 16 - bits.get();
    let first = partition << shift;
    let mut from = first.to_be_bytes().to_vec();
    if after > from.as_slice() {
        from = after.to_vec();
        from.push(0);
    }
    let end = u32::from(first) + (1 << shift);
    let end = u16::try_from(end).ok().map(|end| end.to_be_bytes().to_vec());
    (from, end)
}

/// The first key that does not begin with `prefix`; `None` when there is none.
pub(super) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(higher) = last.checked_add(1) {
            next.push(higher);
            return Some(next);
        }
    }
    None
}

/// What a record adds to its partition's root.
pub(super) fn record_item(key: &RecordKey, record: &Record) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.to_canonical()).update(&record.state_hash());
    *hasher.finalize().as_bytes()
}

pub(super) fn root_key(table: Table, partition: Partition) -> [u8; 3] {
    let [high, low] = partition.to_be_bytes();
    [table as u8, high, low]
}

pub(super) fn partition_of_root(key: &[u8]) -> MetaResult<Partition> {
    match key {
        [_, high, low] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(corrupt("the key of a sum")),
    }
}

pub(super) fn decode_root(bytes: &[u8]) -> Root {
    let mut root = Root::default();
    if let Some((sum, count)) = bytes.split_first_chunk::<32>() {
        root.sum = *sum;
        root.count = count.first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
    }
    root
}

pub(super) fn decode_len(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |len| u32::from_le_bytes(*len))
}

/// The row in [`BLOBS`] of a blob that lies in the index: a byte more than that of a file.
pub(super) fn packed_len(len: u32) -> [u8; 5] {
    let mut row = [0; 5];
    row[..4].copy_from_slice(&len.to_le_bytes());
    row
}

pub(super) fn is_packed(row: &[u8]) -> bool {
    row.len() > size_of::<u32>()
}

pub(super) fn corrupt(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} in the index does not decode"))
}

/// Whether the rows of a table count as space that is used. Small blobs are counted as blobs, and
/// all else is little.
pub(super) fn counts(table: Rows) -> bool {
    [RECORDS.name(), REFS.name()].contains(&table.name())
}

/// What a row takes of the space that a node offers.
pub(super) fn row_bytes(key: usize, value: usize) -> i64 {
    i64::try_from(key + value).unwrap_or(i64::MAX)
}

/// Decodes a row of [`RECORDS`]. One whose key is not its own counts as damaged: a scan that went
/// on from there would turn back.
pub(super) fn decode_record_row(row: &[u8], value: Vec<u8>) -> MetaResult<(RecordKey, Record)> {
    let key = row.get(2..).unwrap_or_default();
    let key = RecordKey::from_canonical(key.to_vec()).ok().filter(|key| record_row(key) == row);
    Ok((key.ok_or_else(|| corrupt("a record key"))?, decode_record(value)?))
}

pub(super) fn decode_record(bytes: Vec<u8>) -> MetaResult<Record> {
    Record::from_canonical(bytes).map_err(|_| corrupt("a record"))
}

/// Decodes a row of [`REFS`]; as for records, it must lie under its own key.
pub(super) fn decode_ref_row(row: &[u8], value: Vec<u8>) -> MetaResult<RefRow> {
    let decoded = RefRow::from_canonical(value).ok();
    let own = decoded.filter(|decoded| ref_row(&decoded.of()) == row);
    own.ok_or_else(|| corrupt("a reference row"))
}

/// Under which name the floor of a partition is kept.
pub(super) fn floor_key(partition: Partition) -> String {
    format!("floor/{partition:04x}")
}

pub(super) fn decode_floor(value: Vec<u8>) -> MetaResult<Hlc> {
    let bytes = value.try_into().map_err(|_| corrupt("the floor of a partition"))?;
    Ok(Hlc(u64::from_be_bytes(bytes)))
}

/// The blob that a row of [`BLOBS`] names.
pub(super) fn decode_id(row: &[u8]) -> MetaResult<BlobId> {
    BlobId::from_slice(row).map_err(|_| corrupt("the id of a blob"))
}

/// Rows are placed by 16 bits whatever the partition size, so a split moves no row.
pub(super) const LOCATION_BITS: PartitionBits = match PartitionBits::new(16) {
    Ok(bits) => bits,
    Err(_) => panic!("16 bits are allowed"),
};
/// Roots are kept for partitions of this size, the one every cluster starts with; those of larger
/// ones are sums of them.
pub(crate) const ROOT_BITS: PartitionBits = PartitionBits::GENESIS;
