//! Rows of the index that do not decode.

use std::collections::BTreeSet;

use dfs_core::id::hex;
use parking_lot::Mutex;
use redb::TableHandle;
use tracing::error;

use super::MetaResult;
use super::rows::Rows;

/// The rows that were found not to decode since the index was opened.
///
/// Rot in one row must not stop the work on all others: pages go on past it. Each such row is
/// logged and counted when it is first met.
#[derive(Default)]
pub(crate) struct DamagedRows(Mutex<BTreeSet<Vec<u8>>>);

impl DamagedRows {
    /// How many rows were met, at most [`DAMAGED_ROWS_MAX`].
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().len() as u64
    }

    /// Returns what was decoded of a row; notes the row when that failed.
    pub(super) fn decoded<T>(&self, table: Rows, key: &[u8], row: MetaResult<T>) -> Option<T> {
        if row.is_err() {
            self.note(table, key);
        }
        row.ok()
    }

    pub(super) fn note(&self, table: Rows, key: &[u8]) {
        let name = [table.name().as_bytes(), b"/", key].concat();
        let mut known = self.0.lock();
        let is_new = known.len() < DAMAGED_ROWS_MAX && known.insert(name);
        drop(known);
        if is_new {
            error!(table = table.name(), row = hex(key), "a row of the index does not decode");
        }
    }
}

/// Rows remembered, so that memory is bounded; with more damaged ones the disk is beyond help.
const DAMAGED_ROWS_MAX: usize = 4096;
