//! Every parser against its bad inputs, and the error each must meet.

use std::path::Path;

use dfs_core::id::BlobId;
use dfs_env::{Env, MemoryFs, MemoryNet, OpenMode, Vfs};

use super::corpus::{Refused, check};
use super::samples::{chunk, valid};
use crate::blob::Header;
use crate::disk::data_dir::DataDir;
use crate::disk::store::{Config, Store};
use crate::error::OpenStoreError;
use crate::fuzzing::KEY;
use crate::keyfile::{self, KeyKind};
use crate::pages::ReferencePage;
use crate::vault::keys::VaultKey;
use crate::vault::manifest::Manifest;

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../../../corpus/bad/", $name, ".txt"))
    };
}

fn text(bytes: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(bytes).map_err(Refused::of)
}

#[test]
fn blobs() {
    let covers = ["Length", "Magic", "UnknownVersion(0)", "Header"];
    check(corpus!("blob"), &covers, valid, |bytes| {
        Header::parse(bytes).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn chunks_under_their_own_id() {
    check(corpus!("chunk"), &["Foreign", "Unverified"], valid, |bytes| {
        let chunks = VaultKey::from_bytes(KEY).derive().chunks;
        chunks.open(&BlobId::of(bytes), bytes).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn chunks_under_the_id_of_another() {
    check(corpus!("chunk-id"), &["Foreign", "WrongId"], valid, |bytes| {
        let chunks = VaultKey::from_bytes(KEY).derive().chunks;
        chunks.open(&chunk().id, bytes).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn padding() {
    check(corpus!("padding"), &["Unverified"], valid, |bytes| {
        let chunks = VaultKey::from_bytes(KEY).derive().chunks;
        chunks.unpad(bytes.to_vec().into(), true).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn manifests() {
    check(corpus!("manifest"), &["Malformed", "UnknownVersion(0)"], valid, |bytes| {
        Manifest::decode(bytes.to_vec().into()).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn reference_pages() {
    check(corpus!("page"), &["Malformed"], valid, |bytes| {
        ReferencePage::from_blob(&bytes.to_vec().into()).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn key_files() {
    let covers =
        ["Damaged", "OtherKind", "UnknownVersion(\"key\", 0)", "UnknownWrap(\"key\", 2)", "Locked"];
    check(corpus!("key-file"), &covers, valid, |bytes| {
        let key = keyfile::decode(Path::new("key"), KeyKind::Vault, bytes, None);
        key.map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn the_text_of_keys() {
    check(corpus!("key-text"), &["Checksum", "Prefix", "Length"], valid, |bytes| {
        VaultKey::from_text(text(bytes)?).map(|_| ()).map_err(Refused::of)
    });
}

#[test]
fn words() {
    check(corpus!("words"), &["NotWords"], valid, |bytes| {
        VaultKey::from_words(text(bytes)?).map(|_| ()).map_err(Refused::of)
    });
}

/// Opens a data directory that holds a `lock` and one file of this content.
async fn open_with(name: &str, bytes: &[u8]) -> Result<(), OpenStoreError> {
    let (fs, root) = (MemoryFs::default(), Path::new("/data"));
    fs.create_dir(root).unwrap();
    for (name, bytes) in [("lock", &[][..]), (name, bytes)] {
        let file = fs.open(&root.join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
    let env = Env::with_disk(1, MemoryNet::default(), fs);
    let _dir = DataDir::open(&env, root)?;
    let store = Store::open(env, Config::new(root)).await?;
    store.close().await;
    Ok(())
}

#[track_caller]
fn check_file(name: &str, text: &str, covers: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    check(text, covers, valid, |bytes| {
        runtime.block_on(open_with(name, bytes)).map_err(Refused::of)
    });
}

#[test]
fn formats_of_a_data_directory() {
    check_file("format", corpus!("format"), &["Old", "UnknownVersion", "Io"]);
}

#[test]
fn boot_counters() {
    check_file("boot", corpus!("boot"), &["Io"]);
}

#[test]
fn node_keys_of_a_data_directory() {
    check_file("node.key", corpus!("node-key"), &["Key"]);
}

#[test]
fn indexes() {
    check_file("index.redb", corpus!("index"), &["Index"]);
}
