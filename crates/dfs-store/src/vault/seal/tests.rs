//! The blob format: known answers, an independent reference, and tampering.

use aes::cipher::{BlockCipherEncrypt, KeyInit};

use super::*;
use crate::vault::keys::{VaultKey, VaultKeys};

fn keys() -> VaultKeys {
    VaultKey::from_bytes([7; 32]).derive()
}

fn plain(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// The format from its description, byte by byte and block by block, sharing no code with the
/// implementation but the primitives.
fn reference(sealer: &Sealer, plain: &[u8], salt: [u8; 16], padded: bool) -> Vec<u8> {
    let mut inner = u32::try_from(plain.len()).unwrap().to_le_bytes().to_vec();
    inner.extend_from_slice(plain);
    if padded && sealer.kind == Kind::Payload {
        while !inner.len().is_multiple_of(64) {
            inner.push(0);
        }
    } else if padded {
        let mut len = inner.len().max(256);
        let e = usize::BITS - 1 - len.leading_zeros();
        let s = u32::BITS - 1 - e.leading_zeros() + 1;
        while !len.is_multiple_of(1 << (e - s)) {
            len += 1;
        }
        inner.resize(len, 0);
    }
    let mut blob = b"DFSB".to_vec();
    blob.extend_from_slice(&[1, 1, sealer.kind as u8, u8::from(padded)]);
    blob.extend_from_slice(&1u32.to_le_bytes());
    blob.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_le_bytes());
    blob.extend_from_slice(sealer.vault.as_bytes());
    blob.extend_from_slice(&salt);
    let tag = blake3::keyed_hash(&sealer.siv, &[&blob[..], &inner[..]].concat());
    let mut okm = [0; 40];
    blake3::Hasher::new_keyed(&sealer.enc).update(tag.as_bytes()).finalize_xof().fill(&mut okm);
    let cipher = Aes256::new_from_slice(&okm[..32]).unwrap();
    blob.extend_from_slice(tag.as_bytes());
    for (counter, block) in (0u64..).zip(inner.chunks(16)) {
        let mut pad: [u8; 16] =
            [&okm[32..], &counter.to_be_bytes()[..]].concat().try_into().unwrap();
        let mut block_pad = pad.into();
        cipher.encrypt_block(&mut block_pad);
        pad = block_pad.into();
        blob.extend(block.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
    }
    blob
}

#[test]
fn an_independent_reference_gives_the_same_bytes() {
    let keys = keys();
    for sealer in [&keys.chunks, &keys.manifests, &keys.payloads] {
        for len in [0, 1, 15, 16, 17, 252, 253, 1000, 4096, 70_000] {
            for padded in [false, true] {
                let salt = [u8::from(padded); 16];
                let sealed = sealer.seal(&plain(len), Salt::Random(salt), padded);
                assert_eq!(sealed.bytes, reference(sealer, &plain(len), salt, padded), "{len}");
            }
        }
    }
}

#[test]
fn known_answers_pin_the_format() {
    let keys = keys();
    let id = |plain: &[u8]| keys.chunks.seal(plain, Salt::Deduplicating, true).id.to_string();
    let known: Vec<_> = KNOWN.iter().map(|(text, _)| (*text, id(text.as_bytes()))).collect();
    let expected: Vec<_> = KNOWN.iter().map(|(text, id)| (*text, (*id).to_owned())).collect();
    assert_eq!(known, expected);
}

/// Vault key 32 × 0x07, kind 1, no salt, padded: plaintext and id. Also in
/// `docs/reference/on-disk-format.md`.
const KNOWN: [(&str, &str); 2] = [
    ("", "73e609843d8114cd4a12c066f5ca1bc20d489beb7da3c0e72b1609a87ffc3a8a"),
    ("hello, world", "6e3d8b917b2052961b87bbc062160e748681d2fd1c1f9d0660edafbbb38211c5"),
];

#[test]
fn every_length_comes_back() {
    let keys = keys();
    for len in (0..600).chain([65_535, 1_048_576]) {
        for padded in [false, true] {
            let sealed = keys.chunks.seal(&plain(len), Salt::Deduplicating, padded);
            assert_eq!(keys.chunks.open(&sealed.id, &sealed.bytes).unwrap(), plain(len));
        }
    }
}

#[test]
fn padding_hides_lengths_in_few_buckets() {
    let keys = keys();
    let len = |n: usize| keys.chunks.seal(&plain(n), Salt::Deduplicating, true).bytes.len();
    let buckets: std::collections::BTreeSet<_> = (0..100_000).step_by(97).map(len).collect();
    assert!(buckets.len() < 120, "{} buckets", buckets.len());
    assert!((1000..100_000).step_by(997).all(|n| len(n) * 100 <= (n + 84) * 113));
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let keys = keys();
    let sealed = keys.payloads.seal(b"a small payload", Salt::Random([3; 16]), true);
    for at in 0..sealed.bytes.len() {
        for bit in 0..8 {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at] ^= 1 << bit;
            // Under the id asked for, and under the id of the changed bytes themselves.
            assert!(keys.payloads.open(&sealed.id, &bytes).is_err(), "byte {at} bit {bit}");
            assert!(
                keys.payloads.open(&BlobId::of(&bytes), &bytes).is_err(),
                "byte {at} bit {bit}"
            );
        }
        let cut = &sealed.bytes[..at];
        assert!(keys.payloads.open(&BlobId::of(cut), cut).is_err(), "cut at {at}");
    }
    let longer = [&sealed.bytes[..], &[0]].concat();
    assert!(keys.payloads.open(&BlobId::of(&longer), &longer).is_err());
}

#[test]
fn another_key_kind_or_vault_opens_nothing() {
    let keys = keys();
    let other = VaultKey::from_bytes([8; 32]).derive();
    let sealed = keys.chunks.seal(b"x", Salt::Deduplicating, false);
    assert_eq!(other.chunks.open(&sealed.id, &sealed.bytes), Err(OpenError::Foreign));
    assert_eq!(keys.payloads.open(&sealed.id, &sealed.bytes), Err(OpenError::Foreign));
    let another = BlobId::of(b"another");
    assert_eq!(keys.chunks.open(&another, &sealed.bytes), Err(OpenError::WrongId));
}

#[test]
fn equal_chunks_are_equal_blobs_unless_salted() {
    let keys = keys();
    let seal = |salt| keys.chunks.seal(b"same", salt, true).id;
    assert_eq!(seal(Salt::Deduplicating), seal(Salt::Deduplicating));
    assert_ne!(seal(Salt::Random([1; 16])), seal(Salt::Random([2; 16])));
}
