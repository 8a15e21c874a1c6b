//! What is asked about directories, and answered.

use bytes::Bytes;
use dfs_core::codec::DecodeError;
use dfs_core::id::{DirId, Tag, VaultId};
use dfs_core::record::digest::HeadsDigest;
use dfs_core::replica::dir_changes::{ChangeMark, DirKey};
use dfs_core::replica::dir_view::Told;

use crate::message::{Request, Response};
use crate::wire::{KEYS_MAX, Wire, WireError, at_most, canonical, proto};

pub(crate) fn scan(vault: VaultId, dir: DirId, after: Option<[u8; 16]>) -> proto::DirScan {
    let (vault, dir) = (canonical(&vault), canonical(&dir));
    proto::DirScan { vault, dir, after_tag: tag_out(after) }
}

pub(crate) fn parse_scan(asked: &proto::DirScan) -> Wire<Request> {
    let (vault, dir) = parse_dir(&asked.vault, &asked.dir)?;
    Ok(Request::DirScan { vault, dir, after: parse_tag(&asked.after_tag)? })
}

pub(crate) fn changes((vault, dir): DirKey, since: Option<ChangeMark>) -> proto::DirChanges {
    let (vault, dir) = (canonical(&vault), canonical(&dir));
    proto::DirChanges { vault, dir, since: since.map(mark_out) }
}

pub(crate) fn parse_changes(asked: &proto::DirChanges) -> Wire<Request> {
    let dir = parse_dir(&asked.vault, &asked.dir)?;
    Ok(Request::DirChanges { dir, since: asked.since.map(parse_mark) })
}

pub(crate) fn digests((vault, dir): DirKey, after: Option<[u8; 16]>) -> proto::DirDigests {
    let (vault, dir) = (canonical(&vault), canonical(&dir));
    proto::DirDigests { vault, dir, after_tag: tag_out(after) }
}

pub(crate) fn parse_digests(asked: &proto::DirDigests) -> Wire<Request> {
    let dir = parse_dir(&asked.vault, &asked.dir)?;
    Ok(Request::DirDigests { dir, after: parse_tag(&asked.after_tag)? })
}

pub(crate) fn changed(mark: ChangeMark, changed: Option<&[Told]>) -> proto::ChangedNames {
    let told = changed.unwrap_or_default();
    let listed = told.iter().filter_map(|(tag, digest)| Some((*tag, (*digest)?)));
    let unlisted = told.iter().filter(|(_, digest)| digest.is_none());
    let unlisted: Vec<u8> = unlisted.flat_map(|(tag, _)| *tag.as_bytes()).collect();
    proto::ChangedNames {
        mark: Some(mark_out(mark)),
        known: changed.is_some(),
        listed: rows_out(listed),
        unlisted: unlisted.into(),
    }
}

pub(crate) fn parse_changed(found: &proto::ChangedNames) -> Wire<Response> {
    let mark = parse_mark(found.mark.ok_or(WireError::Missing("mark"))?);
    if !found.known {
        return Ok(Response::Changed { mark, changed: None });
    }
    let (unlisted, rest) = found.unlisted.as_chunks::<{ Tag::LEN }>();
    if !rest.is_empty() {
        return Err(DecodeError::Invalid("unlisted").into());
    }
    at_most("unlisted", KEYS_MAX, unlisted)?;
    let listed = parse_rows(&found.listed)?.into_iter();
    let listed = listed.map(|(tag, digest)| (tag, Some(digest)));
    let unlisted = unlisted.iter().map(|tag| (Tag::new(*tag), None));
    Ok(Response::Changed { mark, changed: Some(listed.chain(unlisted).collect()) })
}

pub(crate) fn listed(
    digests: &[(Tag, HeadsDigest)],
    next: Option<[u8; 16]>,
) -> proto::ListedDigests {
    proto::ListedDigests { listed: rows_out(digests.iter().copied()), next: tag_out(next) }
}

pub(crate) fn parse_listed(found: &proto::ListedDigests) -> Wire<Response> {
    Ok(Response::Listed { digests: parse_rows(&found.listed)?, next: parse_tag(&found.next)? })
}

fn parse_dir(vault: &[u8], dir: &[u8]) -> Wire<DirKey> {
    Ok((VaultId::from_slice(vault)?, DirId::from_slice(dir)?))
}

fn tag_out(tag: Option<[u8; 16]>) -> Bytes {
    tag.map_or_else(Bytes::new, |tag| Bytes::copy_from_slice(&tag))
}

fn parse_tag(tag: &[u8]) -> Wire<Option<[u8; 16]>> {
    match tag {
        [] => Ok(None),
        _ => Ok(Some(tag.try_into().map_err(|_| DecodeError::Invalid("after_tag"))?)),
    }
}

fn mark_out(mark: ChangeMark) -> proto::ChangeMark {
    proto::ChangeMark { boot: mark.boot, at: mark.at }
}

fn parse_mark(mark: proto::ChangeMark) -> ChangeMark {
    ChangeMark { boot: mark.boot, at: mark.at }
}

fn rows_out(listed: impl Iterator<Item = (Tag, HeadsDigest)>) -> Bytes {
    let mut rows = Vec::new();
    for (tag, digest) in listed {
        rows.extend_from_slice(tag.as_bytes());
        rows.extend_from_slice(digest.as_bytes());
    }
    rows.into()
}

fn parse_rows(rows: &[u8]) -> Wire<Vec<(Tag, HeadsDigest)>> {
    let (rows, rest) = rows.as_chunks::<ROW>();
    if !rest.is_empty() {
        return Err(DecodeError::Invalid("listed").into());
    }
    at_most("listed", KEYS_MAX, rows)?;
    let row = |row: &[u8; ROW]| {
        let (tag, digest) = row.split_first_chunk::<{ Tag::LEN }>()?;
        Some((Tag::new(*tag), HeadsDigest::new(*digest.first_chunk()?)))
    };
    Ok(rows.iter().filter_map(row).collect())
}

/// Bytes of a tag and the digest beside it.
const ROW: usize = Tag::LEN + HeadsDigest::LEN;
