//! The config directory and its two keys, shared by all nodes of one user on one machine.

use std::path::{Path, PathBuf};

use dfs_env::{Env, FileLock};
use dfs_store::keyfile::{self, KeyFileError, KeyKind};
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};

/// A key that all nodes of one user on one machine share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedKey {
    /// Lets a node join.
    Cluster,
    /// Opens files.
    Vault,
}

impl SharedKey {
    /// What it is called in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Vault => "vault",
        }
    }

    /// Where it is in the config directory.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.key", self.name()))
    }

    fn kind(self) -> KeyKind {
        match self {
            Self::Cluster => KeyKind::Cluster,
            Self::Vault => KeyKind::Vault,
        }
    }

    fn read(self, env: &Env, dir: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        keyfile::read(env.fs(), &self.path(dir), self.kind())
    }

    fn write(self, env: &Env, dir: &Path, key: &[u8; 32]) -> Result<(), Failure> {
        keyfile::write(env.fs(), &self.path(dir), self.kind(), key).map_err(bad_key)
    }
}

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
/// A missing cluster key is made if it may be, and a missing vault key only together with it. Nodes
/// that start at the same time agree: one makes both while the others wait, `vault.key` first and
/// `cluster.key` last.
///
/// # Errors
/// [`Code::Key`] when a key is missing where it may not be made, damaged, or open to others.
pub fn load_or_create(
    env: &Env,
    dir: &Path,
    may_make: bool,
    storage_only: bool,
) -> Result<Keys, Failure> {
    let _lock = lock(env, dir)?;
    match SharedKey::Cluster.read(env, dir) {
        Ok(_) => {}
        Err(KeyFileError::Missing(_)) if may_make => {
            if matches!(SharedKey::Vault.read(env, dir), Err(KeyFileError::Missing(_))) {
                SharedKey::Vault.write(env, dir, &env.random())?;
            }
            SharedKey::Cluster.write(env, dir, &env.random())?;
        }
        Err(error @ KeyFileError::Missing(_)) => {
            return Err(Failure::new(Code::Key, error).hint(
                "this node joins a cluster elsewhere: run 'dfs invite' on a member and start this \
                 one with --join and the line it prints, or bring the key with 'dfs key export \
                 --cluster' there and 'dfs key import --cluster' here; if there is no cluster yet, \
                 start this one node with --init",
            ));
        }
        Err(error) => return Err(bad_key(error)),
    }
    let cluster = SharedKey::Cluster.read(env, dir).map_err(bad_key)?;
    let vault = match SharedKey::Vault.read(env, dir) {
        _ if storage_only => None,
        Ok(key) => Some(VaultKey::from_bytes(*key)),
        Err(KeyFileError::Missing(_)) => None,
        Err(error) => return Err(bad_key(error)),
    };
    Ok(Keys { cluster: ClusterKey::from_bytes(*cluster), vault })
}

/// The vault's key where it is the only one: its 24 words were typed on an empty machine.
///
/// # Errors
/// [`Code::Key`] when it is damaged, or open to others.
pub fn vault_alone(env: &Env, dir: &Path) -> Result<Option<VaultKey>, Failure> {
    // A first start makes it a moment before the other.
    let _lock = lock(env, dir)?;
    if !matches!(SharedKey::Cluster.read(env, dir), Err(KeyFileError::Missing(_))) {
        return Ok(None);
    }
    match SharedKey::Vault.read(env, dir) {
        Ok(key) => Ok(Some(VaultKey::from_bytes(*key))),
        Err(KeyFileError::Missing(_)) => Ok(None),
        Err(error) => Err(bad_key(error)),
    }
}

/// Makes the config directory when it is missing, and locks it. Refuses one that others can write
/// to: they could put their keys in it.
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
pub fn read(env: &Env, dir: &Path, which: SharedKey) -> Result<Zeroizing<[u8; 32]>, Failure> {
    which.read(env, dir).map_err(bad_key)
}

/// Puts a key into the config directory. Replaces another one only with `replace`.
///
/// # Errors
/// [`Code::Key`] when another key is there, or the directory is open to others.
pub fn import(
    env: &Env,
    dir: &Path,
    which: SharedKey,
    key: &[u8; 32],
    replace: bool,
) -> Result<(), Failure> {
    let _lock = lock(env, dir)?;
    match which.read(env, dir) {
        Ok(known) if *known == *key => return Ok(()),
        Err(KeyFileError::Missing(_)) => {}
        _ if replace => {}
        _ => {
            let message = format!("{} holds another key", which.path(dir).display());
            return Err(Failure::new(Code::Key, message)
                .hint("what it opens becomes unreadable without it; use --replace to go on"));
        }
    }
    which.write(env, dir, key)
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
        let refused = import(&Env::real(), dir.path(), SharedKey::Vault, &[7; 32], false);
        assert_eq!(refused.unwrap_err().code, Code::Key);
        assert!(!SharedKey::Vault.path(dir.path()).exists());
    }

    #[test]
    fn a_key_does_not_inherit_the_mode_of_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("vault.key.tmp");
        fs::write(&left, "half a key").unwrap();
        set_mode(&left, 0o666);
        import(&Env::real(), dir.path(), SharedKey::Vault, &[7; 32], false).unwrap();
        assert_eq!(*read(&Env::real(), dir.path(), SharedKey::Vault).unwrap(), [7; 32]);
        assert!(!left.exists());
    }
}
