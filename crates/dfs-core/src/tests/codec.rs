//! The canonical encoding against hostile input.

use bytes::Bytes;
use proptest::prelude::*;

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::id::{BlobId, RecordKey, Vid};
use crate::layout::epoch::{EpochCert, EpochState};
use crate::node::member::NodeInfo;
use crate::record::refs::{RefRow, Use};
use crate::record::version::Record;
use crate::record::writer::WriterCert;

#[test]
fn a_count_beyond_the_input_reserves_nothing() {
    let mut out = Writer::default();
    out.count(1_000_000);
    let mut input = Reader::new(out.into_vec().into());
    assert_eq!(input.list::<Vid>("vids", 2_000_000), Err(DecodeError::Truncated));
}

#[test]
fn limits_are_checked_before_reading() {
    let mut out = Writer::default();
    out.bytes(&[0; 10]);
    let bytes: Bytes = out.into_vec().into();
    let read = |max| Reader::new(bytes.clone()).bytes("field", max);
    assert_eq!(read(9), Err(DecodeError::TooLong("field")));
    assert_eq!(read(10).unwrap().len(), 10);
}

#[test]
fn what_is_left_over_is_refused() {
    let mut bytes = Vid::new([1; 16]).to_canonical();
    assert!(Vid::from_canonical(bytes.clone()).is_ok());
    bytes.push(0);
    assert_eq!(Vid::from_canonical(bytes), Err(DecodeError::Trailing));
}

#[test]
fn reference_rows_come_back() {
    let key = RecordKey::from_canonical(vec![7; RecordKey::LEN]).unwrap();
    let row = RefRow {
        blob: BlobId::new([1; 32]),
        vid: Vid::new([2; 16]),
        key,
        hlc: crate::hlc::Hlc(3),
        dropped: true,
        hold_until: crate::hlc::Hlc(4),
    };
    assert_eq!(RefRow::from_canonical(row.to_canonical()), Ok(row));
    assert_eq!(Use::from_canonical(row.of().to_canonical()), Ok(row.of()));
    let held = RefRow { dropped: false, hold_until: crate::hlc::Hlc(9), ..row };
    assert_eq!(row.merged(held), RefRow { dropped: true, ..held });
    assert_eq!(held.merged(row), held, "that others dropped it says nothing");
    assert_eq!(row.state_hash(), held.state_hash());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _ = Record::from_canonical(bytes.clone());
        let _ = WriterCert::from_canonical(bytes.clone());
        let _ = NodeInfo::from_canonical(bytes.clone());
        let _ = EpochState::from_canonical(bytes.clone());
        let _ = EpochCert::from_canonical(bytes.clone());
        let _ = RefRow::from_canonical(bytes.clone());
        if let Ok(record) = Record::from_canonical(bytes.clone()) {
            prop_assert_eq!(record.to_canonical(), bytes.to_vec());
        }
    }
}
