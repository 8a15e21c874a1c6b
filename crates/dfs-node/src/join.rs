//! Coming to the keys of a cluster: from an invite (`--join`), or with the vault's key alone.

use std::io::Read;
use std::path::Path;

use dfs_core::address::Address;
use dfs_core::id::TextError;
use dfs_core::layout::epoch::Role;
use dfs_core::node::invite::Invite;
use dfs_env::Env;
use dfs_p2p::{RedeemError, recall, redeem};
use dfs_store::vault::keys::VaultKey;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::config::NodeConfig;
use crate::exit::{Code, Failure, chain};
use crate::keyring::{self, SharedKey};

/// The invite that `--join` names: a line, a file that has it, or `-` for stdin. One that is gone
/// is needed no more once there is a cluster's key.
///
/// # Errors
/// [`Code::Usage`] when it is none.
pub fn read(join: &str, config_dir: &Path) -> Result<Option<Invite>, Failure> {
    match read_line(join) {
        Ok(invite) => Ok(Some(invite)),
        Err(failure) if has_keys(config_dir) => {
            warn!(why = failure.message, "going on without the invite");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Whether the config directory has a cluster's key.
pub fn has_keys(config_dir: &Path) -> bool {
    SharedKey::Cluster.path(config_dir).exists()
}

fn read_line(join: &str) -> Result<Invite, Failure> {
    let failed = |error| Failure::new(Code::Usage, format!("cannot read {join:?}: {error}"));
    let mut text = Zeroizing::new(String::with_capacity(LINE_BYTES_MAX));
    let line = match join {
        "-" => {
            let mut stdin = std::io::stdin().lock().take(LINE_BYTES_MAX as u64);
            stdin.read_to_string(&mut text).map_err(failed)?;
            text.as_str()
        }
        line if line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("dfsi1")) => line,
        path => {
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(LINE_BYTES_MAX as u64).read_to_string(&mut text).map_err(failed)?;
            text.as_str()
        }
    };
    line.parse().map_err(|error: TextError| {
        Failure::new(Code::Usage, format!("the invite {error}"))
            .hint("it is one line that begins with dfsi1; 'dfs invite' makes one")
    })
}

/// Puts the keys that an invite brings into the config directory. A node that starts again with the
/// same line goes on with the keys that it has; one that has another cluster's is told so.
///
/// # Errors
/// [`Code::Retryable`] while the node that made the invite does not answer, [`Code::Key`] when it
/// does not take it, or another key is here.
pub async fn fetch_keys(env: &Env, config: &NodeConfig, invite: &Invite) -> Result<(), Failure> {
    let config_dir = &config.config_dir;
    if config.storage_only && invite.grant.role == Role::Gateway {
        let why = "the invite is of a gateway, which --storage-only rules out";
        return Err(Failure::new(Code::Usage, why).hint("ask for one with '--role storage'"));
    }
    let started_before = config.data_dir.join("format").exists();
    if has_keys(config_dir) && started_before {
        return Ok(());
    }
    let keys = match redeem(env, invite).await {
        Err(error) if has_keys(config_dir) => {
            warn!(%error, "going on with the cluster's key that is here");
            return Ok(());
        }
        keys => keys,
    };
    let keys = keys.map_err(|error| match &error {
        RedeemError::Unreachable(_) => Failure::new(Code::Retryable, chain(&error))
            .hint("start it, see that its port is reachable, or make an invite with --address"),
        RedeemError::Refused(_) => Failure::new(Code::Key, chain(&error)).hint(
            "'dfs invite' makes another; 'dfs invite ls' on its node shows what became of it",
        ),
    })?;
    let (env, dir) = (env.clone(), config_dir.clone());
    env.clone().offload(move || import(&env, &dir, &keys)).await.map_err(|failure| {
        failure.hint("it is of another cluster; give an empty --config-dir to keep both")
    })
}

/// Asks the peers for the cluster's key where this machine has the vault's key and no other: the 24
/// words are all that is needed to command a cluster again. Says whether it came.
///
/// # Errors
/// [`Code::Key`] when the key cannot be kept.
pub async fn recall_key(env: &Env, config_dir: &Path, peers: &[Address]) -> Result<bool, Failure> {
    if peers.is_empty() || has_keys(config_dir) || !SharedKey::Vault.path(config_dir).exists() {
        return Ok(false);
    }
    let vault = {
        let (env, dir) = (env.clone(), config_dir.to_owned());
        env.clone().offload(move || keyring::read(&env, &dir, SharedKey::Vault)).await?
    };
    match recall(env, peers, &VaultKey::from_bytes(*vault).admin()).await {
        Ok(keys) => {
            let (env, dir) = (env.clone(), config_dir.to_owned());
            env.clone().offload(move || import(&env, &dir, &keys)).await?;
            info!("a member of the cluster gave its key to the vault's");
            Ok(true)
        }
        Err(error) => {
            warn!(%error, "no peer gave the cluster's key");
            Ok(false)
        }
    }
}

/// The vault's key first: with the cluster's key there nothing is fetched again.
fn import(env: &Env, dir: &Path, keys: &[u8]) -> Result<(), Failure> {
    let key = |bytes: &[u8]| -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(bytes.try_into().ok()?))
    };
    let (cluster, vault) = keys.split_at_checked(32).unwrap_or((keys, &[]));
    let Some(cluster) = key(cluster) else {
        return Err(Failure::new(Code::Failed, "the invite brought something else than keys"));
    };
    if let Some(vault) = key(vault) {
        keyring::import(env, dir, SharedKey::Vault, &vault, false)?;
    }
    keyring::import(env, dir, SharedKey::Cluster, &cluster, false)
}

/// More than any invite has.
const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        assert!(import(&env, dir.path(), &[1; 31]).is_err());
        import(&env, dir.path(), &[1; 32]).unwrap();
        assert!(!SharedKey::Vault.path(dir.path()).exists());
        assert!(import(&env, dir.path(), &[2; 32]).is_err(), "another cluster's key stays");
        let dir = tempfile::tempdir().unwrap();
        import(&env, dir.path(), &[[1; 32], [2; 32]].concat()).unwrap();
        assert_eq!(*keyring::read(&env, dir.path(), SharedKey::Cluster).unwrap(), [1; 32]);
        assert_eq!(*keyring::read(&env, dir.path(), SharedKey::Vault).unwrap(), [2; 32]);
    }

    #[test]
    fn a_line_is_read_from_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invite");
        std::fs::write(&path, "not an invite\n").unwrap();
        for join in [path.to_str().unwrap(), "dfsi1qqqq", "/nonexistent/invite"] {
            assert_eq!(read(join, dir.path()).unwrap_err().code, Code::Usage, "{join}");
        }
        import(&Env::real(), dir.path(), &[1; 32]).unwrap();
        assert_eq!(read("/nonexistent/invite", dir.path()).unwrap(), None);
    }
}
