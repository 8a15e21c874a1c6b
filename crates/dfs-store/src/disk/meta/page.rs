//! How much of the index one question reads: rows and bytes, both bounded before it begins.

use dfs_env::{Bug, bug};

/// The bounds of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Rows in it.
    pub rows: usize,
    /// Bytes of rows that are read for it, but for the last row, which may go beyond.
    pub bytes: usize,
}

impl PageLimit {
    /// So many rows, and no more bytes than [`PAGE_BYTES_MAX`].
    pub fn of_rows(rows: usize) -> Self {
        Self { rows, bytes: PAGE_BYTES_MAX }
    }

    /// Whether a page that has these is full.
    pub(super) fn is_reached(&self, rows: usize, bytes: usize) -> bool {
        let is_heavy = bytes >= self.bytes && !bug(Bug::ReadsUnbounded);
        rows >= self.rows || (rows > 0 && is_heavy)
    }
}

/// Some rows in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether the page ended because it was full, so that more may follow.
    pub more: bool,
}

/// Bytes of rows that are read for one page: a thousand ordinary records, forty of the largest.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_rows_or_bytes_and_has_one_row_at_least() {
        let limit = PageLimit { rows: 3, bytes: 100 };
        assert!(!limit.is_reached(0, 0) && !limit.is_reached(2, 99) && !limit.is_reached(0, 500));
        assert!(limit.is_reached(3, 0) && limit.is_reached(1, 100));
    }
}
