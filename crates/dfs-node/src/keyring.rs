//! The config directory and its two keys, shared by all nodes of one user on one machine.

use std::path::{Path, PathBuf};

use dfs_env::{Env, FileLock};
use dfs_store::keyfile::{self, KeyFileError, KeyKind};
use dfs_store::vault::keys::{ClusterKey, VaultKey};

use crate::exit::{Code, Failure};

/// The keys a node starts with.
#[derive(Debug)]
pub struct Keys {
    /// Lets it join.
    pub cluster: ClusterKey,
    /// Opens files, on a machine that is trusted with them.
    pub vault: Option<VaultKey>,
}

/// Loads the keys; a first start makes them.
///
/// A missing cluster key is made if it may be, and a missing vault key only together with it. Nodes started at once agree: one makes both while
/// the others wait, `vault.key` first and `cluster.key` last.
///
/// # Errors
/// [`Code::Key`] when a key is missing where it may not be made, damaged, or open to others.
pub fn load_or_create(
    env: &Env,
    dir: &Path,
    may_make: bool,
    storage_only: bool,
) -> Result<Keys, Failure> {
    let fs = env.fs();
    let _lock = lock(env, dir)?;
    let (cluster_path, vault_path) = (dir.join("cluster.key"), dir.join("vault.key"));
    match keyfile::read(fs, &cluster_path, KeyKind::Cluster) {
        Ok(_) => {}
        Err(KeyFileError::Missing(_)) if may_make => {
            if matches!(
                keyfile::read(fs, &vault_path, KeyKind::Vault),
                Err(KeyFileError::Missing(_))
            ) {
                keyfile::write(fs, &vault_path, KeyKind::Vault, &env.random()).map_err(bad_key)?;
            }
            keyfile::write(fs, &cluster_path, KeyKind::Cluster, &env.random()).map_err(bad_key)?;
        }
        Err(error @ KeyFileError::Missing(_)) => {
            return Err(Failure::new(Code::Key, error).hint(
                "this node joins a cluster elsewhere and needs its key: run 'dfs key export \
                 --cluster' on a member and 'dfs key import --cluster' here; if there is no \
                 cluster yet, start this one node with --init",
            ));
        }
        Err(error) => return Err(bad_key(error)),
    }
    let cluster = keyfile::read(fs, &cluster_path, KeyKind::Cluster).map_err(bad_key)?;
    let vault = match keyfile::read(fs, &vault_path, KeyKind::Vault) {
        _ if storage_only => None,
        Ok(key) => Some(VaultKey::from_bytes(*key)),
        Err(KeyFileError::Missing(_)) => None,
        Err(error) => return Err(bad_key(error)),
    };
    Ok(Keys { cluster: ClusterKey::from_bytes(*cluster), vault })
}

/// Makes the config directory when it is missing, and locks it. One that others can write to is
/// refused: they could put keys of theirs in it.
fn lock(env: &Env, dir: &Path) -> Result<Option<FileLock>, Failure> {
    let used =
        |error| Failure::new(Code::Failed, format!("could not use {}: {error}", dir.display()));
    let fs = env.fs();
    fs.create_dir_all(dir).map_err(used)?;
    let found = fs.metadata(dir).map_err(used)?;
    if !found.owned || found.mode & 0o022 != 0 {
        let message = format!("{} belongs to another user or is writable by others", dir.display());
        return Err(Failure::new(Code::Key, message)
            .hint(format!("chmod 700 {}, or give --config-dir", dir.display())));
    }
    fs.lock(&dir.join("lock"), true).map_err(used)
}

/// A key of the config directory.
///
/// # Errors
/// [`Code::Key`] when it is missing, damaged or open to others.
pub fn read(env: &Env, dir: &Path, kind: KeyKind) -> Result<[u8; 32], Failure> {
    keyfile::read(env.fs(), &path(dir, kind), kind).map(|key| *key).map_err(bad_key)
}

/// Puts a key into the config directory; an existing other one is not replaced unless `replace`.
///
/// # Errors
/// [`Code::Key`] when another key is there, or the directory is open to others.
pub fn import(
    env: &Env,
    dir: &Path,
    kind: KeyKind,
    key: &[u8; 32],
    replace: bool,
) -> Result<(), Failure> {
    let _lock = lock(env, dir)?;
    let path = path(dir, kind);
    match keyfile::read(env.fs(), &path, kind) {
        Ok(known) if *known == *key => return Ok(()),
        Err(KeyFileError::Missing(_)) => {}
        _ if replace => {}
        _ => {
            let message = format!("{} holds another key", path.display());
            return Err(Failure::new(Code::Key, message)
                .hint("what it opens becomes unreadable without it; use --replace to go on"));
        }
    }
    keyfile::write(env.fs(), &path, kind, key).map_err(bad_key)
}

/// Where a key of the config directory is.
pub fn path(dir: &Path, kind: KeyKind) -> PathBuf {
    dir.join(match kind {
        KeyKind::Cluster => "cluster.key",
        KeyKind::Vault | KeyKind::Node | KeyKind::Writer => "vault.key",
    })
}

fn bad_key(error: KeyFileError) -> Failure {
    let hint = match &error {
        KeyFileError::Missing(_) => "'dfs key import' puts a key here",
        KeyFileError::Exposed(_) => "make it yours and chmod 600 it",
        KeyFileError::Damaged(_) | KeyFileError::OtherKind(_) => {
            "restore it from a backup: 'dfs key import' reads the 24 words or the text form"
        }
        KeyFileError::UnknownVersion(..) | KeyFileError::UnknownWrap(..) => {
            "a newer version of dfs wrote it: use that one"
        }
        KeyFileError::Io(..) => "check the disk and the permissions",
    };
    Failure::new(Code::Key, crate::exit::chain(&error)).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_not_put_into_a_directory_that_others_can_write_to() {
        let dir = tempfile::tempdir().unwrap();
        set_mode(dir.path(), 0o777);
        let refused = import(&Env::real(), dir.path(), KeyKind::Vault, &[7; 32], false);
        assert_eq!(refused.unwrap_err().code, Code::Key);
        assert!(!path(dir.path(), KeyKind::Vault).exists());
    }

    #[test]
    fn a_key_does_not_inherit_the_mode_of_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("vault.key.tmp");
        fs::write(&left, "half a key").unwrap();
        set_mode(&left, 0o666);
        import(&Env::real(), dir.path(), KeyKind::Vault, &[7; 32], false).unwrap();
        assert_eq!(read(&Env::real(), dir.path(), KeyKind::Vault).unwrap(), [7; 32]);
        assert!(!left.exists());
    }
}
