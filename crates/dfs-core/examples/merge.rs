//! Two people edit one name at once: both edits survive until someone who saw both goes on.
//!
//! cargo run -p dfs-core --example merge

use bytes::Bytes;
use dfs_core::hlc::{Clock, Hlc};
use dfs_core::id::{CertId, Vid};
use dfs_core::record::version::{Kind, Record, Version, merge, place_after};

fn write(read: &Record, who: u64, number: u8, stamp: Hlc) -> Record {
    let place = place_after(read, stamp, who, 0, true);
    Record::of(Version {
        vid: Vid::new([number; 16]),
        actor: place.actor,
        hlc: place.hlc,
        context: place.context,
        kind: Kind::Live,
        sealed: Bytes::from_static(b"sealed elsewhere"),
        refs_root: None,
        chunks: 0,
        bytes_stored: 0,
        retained: Vec::new(),
        writer: CertId::new([0; 32]),
        signature: [0; 64],
    })
}

fn main() {
    let mut clock = Clock::default();
    let mut tick = || clock.tick(1_767_225_600_000);
    let first = write(&Record::default(), 1, 1, tick());
    let hers = write(&first, 1, 2, tick());
    let his = write(&first, 2, 3, tick());

    let both = merge(&hers, &his);
    eprintln!("heads: {}, conflicts: {}", both.heads().count(), both.conflicts());
    assert_eq!(both, merge(&his, &hers));

    let settled = merge(&both, &write(&both, 1, 4, tick()));
    eprintln!("after a write that saw both: {} head", settled.heads().count());
}
