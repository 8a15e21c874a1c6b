//! The config directory and its two keys, shared by all nodes of one user on one machine.

use std::path::{Path, PathBuf};

use dfs_env::{Env, FileLock};
use dfs_store::keyfile::{self, Cost, KeyFileError, KeyKind, SALT_LEN};
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};
use crate::unlock::Unlock;

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

    /// Reads the file; one that a passphrase protects stays closed.
    fn look(self, env: &Env, dir: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        keyfile::read(env.fs(), &self.path(dir), self.kind())
    }

    /// Asks for the passphrase of the file, if it has one: not while others wait for the directory.
    fn ask_ahead(self, env: &Env, dir: &Path, unlock: &Unlock) -> Result<(), Failure> {
        match self.look(env, dir) {
            Err(KeyFileError::Locked(path)) => unlock.passphrase(&path).map(drop),
            _ => Ok(()),
        }
    }

    /// Reads the file; asks for the passphrase that protects it, if one does. `None` when there is
    /// no file.
    fn open(
        self,
        env: &Env,
        dir: &Path,
        unlock: &Unlock,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, Failure> {
        let opened = match self.look(env, dir) {
            Err(KeyFileError::Locked(path)) => {
                let passphrase = unlock.passphrase(&path)?;
                keyfile::open(env.fs(), &path, self.kind(), Some(passphrase.as_bytes()))
            }
            looked => looked,
        };
        match opened {
            Ok(key) => Ok(Some(key)),
            Err(KeyFileError::Missing(_)) => Ok(None),
            Err(error) => Err(bad_key(error)),
        }
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
    vault: Vault<'_>,
) -> Result<Keys, Failure> {
    if let Vault::Opens(unlock) = vault {
        SharedKey::Vault.ask_ahead(env, dir, unlock)?;
    }
    let _lock = lock(env, dir)?;
    match SharedKey::Cluster.look(env, dir) {
        Ok(_) => {}
        Err(KeyFileError::Missing(_)) if may_make => {
            if matches!(SharedKey::Vault.look(env, dir), Err(KeyFileError::Missing(_))) {
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
    let cluster = SharedKey::Cluster.look(env, dir).map_err(bad_key)?;
    let vault = match vault {
        Vault::StaysClosed => None,
        Vault::Opens(unlock) => SharedKey::Vault.open(env, dir, unlock)?,
    };
    let vault = vault.map(|key| VaultKey::from_bytes(*key));
    Ok(Keys { cluster: ClusterKey::from_bytes(*cluster), vault })
}

/// What a node does with the vault's key that is there.
#[derive(Debug)]
pub enum Vault<'a> {
    /// It opens files, after the passphrase if it has one.
    Opens(&'a Unlock),
    /// It stores for others only.
    StaysClosed,
}

/// The vault's key where it is the only one: its 24 words were typed on an empty machine.
///
/// # Errors
/// [`Code::Key`] when it is damaged, or open to others.
pub fn vault_alone(env: &Env, dir: &Path, unlock: &Unlock) -> Result<Option<VaultKey>, Failure> {
    let is_alone = || matches!(SharedKey::Cluster.look(env, dir), Err(KeyFileError::Missing(_)));
    if is_alone() {
        SharedKey::Vault.ask_ahead(env, dir, unlock)?;
    }
    // A first start makes it a moment before the other.
    let _lock = lock(env, dir)?;
    if !is_alone() {
        return Ok(None);
    }
    let key = SharedKey::Vault.open(env, dir, unlock)?;
    Ok(key.map(|key| VaultKey::from_bytes(*key)))
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
pub fn read(
    env: &Env,
    dir: &Path,
    which: SharedKey,
    unlock: &Unlock,
) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let missing = || bad_key(KeyFileError::Missing(which.path(dir)));
    which.open(env, dir, unlock)?.ok_or_else(missing)
}

/// Looks at a key of the config directory. Returns whether a passphrase protects it.
///
/// # Errors
/// As [`read`], but for what only the passphrase would show.
pub fn is_protected(env: &Env, dir: &Path, which: SharedKey) -> Result<bool, Failure> {
    match which.look(env, dir) {
        Ok(_) => Ok(false),
        Err(KeyFileError::Locked(_)) => Ok(true),
        Err(error) => Err(bad_key(error)),
    }
}

/// Closes the vault's key with a passphrase, in the place of another one or none; `None` leaves it
/// open to whoever can read the file. Nodes need it when they start the next time.
///
/// # Errors
/// [`Code::Key`] when it is missing, damaged, open to others, or the passphrase is another.
pub fn protect(env: &Env, dir: &Path, unlock: &Unlock, new: Option<&str>) -> Result<(), Failure> {
    let which = SharedKey::Vault;
    which.ask_ahead(env, dir, unlock)?;
    let _lock = lock(env, dir)?;
    let key = read(env, dir, which, unlock)?;
    let Some(new) = new else { return which.write(env, dir, &key) };
    let (path, key) = (which.path(dir), (which.kind(), &*key));
    let salt: [u8; SALT_LEN] = env.random();
    let written = keyfile::write_wrapped(env.fs(), &path, key, new.as_bytes(), &salt, Cost::NOW);
    written.map_err(bad_key)
}

/// How a key is put where there may be another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Import<'a> {
    /// Whether it takes the place of another one.
    pub replace: bool,
    /// Opens one that is there, to see whether it is the same.
    pub unlock: Option<&'a Unlock>,
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
    Import { replace, unlock }: Import<'_>,
) -> Result<(), Failure> {
    if let Some(unlock) = unlock {
        which.ask_ahead(env, dir, unlock)?;
    }
    let _lock = lock(env, dir)?;
    match which.look(env, dir) {
        Ok(known) if *known == *key => return Ok(()),
        Err(error @ KeyFileError::Locked(_)) if !replace => {
            let opened = unlock.map(|unlock| which.open(env, dir, unlock)).transpose()?.flatten();
            if opened.is_some_and(|known| *known == *key) {
                return Ok(());
            }
            let hint = "use --replace to put a key in its place that no passphrase protects";
            return Err(bad_key(error).hint(hint));
        }
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
        KeyFileError::Locked(_) => "give --passphrase-file, or run this on a terminal",
        KeyFileError::WrongPassphrase(_) => {
            "type it again; where it is lost, 'dfs key import --replace' takes the 24 words"
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
        let refused =
            import(&Env::real(), dir.path(), SharedKey::Vault, &[7; 32], Import::default());
        assert_eq!(refused.unwrap_err().code, Code::Key);
        assert!(!SharedKey::Vault.path(dir.path()).exists());
    }

    #[test]
    fn a_key_does_not_inherit_the_mode_of_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("vault.key.tmp");
        fs::write(&left, "half a key").unwrap();
        set_mode(&left, 0o666);
        import(&Env::real(), dir.path(), SharedKey::Vault, &[7; 32], Import::default()).unwrap();
        let unlock = Unlock::default();
        assert_eq!(*read(&Env::real(), dir.path(), SharedKey::Vault, &unlock).unwrap(), [7; 32]);
        assert!(!left.exists());
    }
}
