//! Coming to the keys of a cluster: from an invite (`--join`), or with the vault's key alone.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dfs_core::id::TextError;
use dfs_core::layout::epoch::Role;
use dfs_core::node::invite::Invite;
use dfs_env::Env;
use dfs_p2p::{RedeemError, recall, redeem};
use dfs_server::Client;
use dfs_store::vault::keys::ClusterKey;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::config::NodeConfig;
use crate::exit::{Code, Failure, chain};
use crate::keyring::{self, Import, SharedKey};
use crate::unlock::Unlock;

/// The invite that `--join` names: a line, a file that has it, or `-` for stdin. One that is gone
/// is needed no more once there is a cluster's key and a peer is known.
///
/// # Errors
/// [`Code::Usage`] when it is none.
pub fn read(join: &str, config: &NodeConfig) -> Result<Option<Invite>, Failure> {
    // A node that has never run would know nobody to join.
    let knows_peers = !config.bootstrap.is_empty() || has_started(config);
    match read_line(join) {
        Ok(invite) => Ok(Some(invite)),
        Err(failure) if has_keys(&config.config_dir) && knows_peers => {
            warn!(why = failure.message, "going on without the invite");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Whether a node has run on the data directory.
fn has_started(config: &NodeConfig) -> bool {
    config.data_dir.join("format").exists()
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
    if has_keys(config_dir) && has_started(config) {
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
    let (env, dir, unlock) = (env.clone(), config_dir.clone(), config.unlock.clone());
    let due = if invite.grant.role == Role::Gateway { 64 } else { 32 };
    if keys.len() != due {
        return Err(Failure::new(Code::Failed, "the invite brought something else than keys"));
    }
    env.clone().offload(move || import(&env, &dir, &keys, &unlock)).await.map_err(|failure| {
        failure.hint("if it is of another cluster, an empty --config-dir keeps both")
    })
}

/// Asks the peers for the cluster's key where this machine has the vault's key and no other: the 24
/// words are all that is needed to command a cluster again. `None` where there is nothing to ask.
///
/// Who answers is not known, so the key is kept only once it has led into a cluster that this vault
/// governs: see [`keep_key`].
///
/// # Errors
/// [`Code::Key`] when nobody gives it.
pub async fn recall_key(env: &Env, config: &NodeConfig) -> Result<Option<ClusterKey>, Failure> {
    let alone = {
        let (env, dir) = (env.clone(), config.config_dir.clone());
        let unlock = config.unlock.clone();
        env.clone().offload(move || keyring::vault_alone(&env, &dir, &unlock)).await?
    };
    let Some(vault) = alone.filter(|_| !config.bootstrap.is_empty()) else { return Ok(None) };
    let given = recall(env, &config.bootstrap, &vault.admin()).await;
    let key = given.map_err(|error| chain(&error)).and_then(|keys| {
        <[u8; 32]>::try_from(&keys[..]).map_err(|_| "it sent something else".to_owned())
    });
    match key {
        Ok(key) => {
            info!("a peer gave a cluster's key to the vault's");
            Ok(Some(ClusterKey::from_bytes(key)))
        }
        Err(why) => Err(Failure::new(
            Code::Key,
            format!("the cluster's key is missing beside the vault's, and no peer gave it: {why}"),
        )
        .hint(
            "start a node of the cluster that --bootstrap names, or bring the key with 'dfs key \
             export --cluster' there and 'dfs key import --cluster' here",
        )),
    }
}

/// Puts a recalled key into the config directory once the node has joined with it.
pub async fn keep_key(env: Env, config_dir: PathBuf, key: ClusterKey, client: Client) {
    while client.health().await.is_ok_and(|health| health.cluster.is_empty()) {
        env.sleep(JOINED_EVERY).await;
    }
    let files = env.clone();
    let kept = env.offload(move || {
        keyring::import(&files, &config_dir, SharedKey::Cluster, key.expose(), Import::default())
    });
    if let Err(failure) = kept.await {
        warn!(why = failure.message, "the cluster's key could not be kept");
    }
}

/// The vault's key first: with the cluster's key there nothing is fetched again.
fn import(env: &Env, dir: &Path, keys: &[u8], unlock: &Unlock) -> Result<(), Failure> {
    let key = |bytes: &[u8]| -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(bytes.try_into().ok()?))
    };
    let (cluster, vault) = keys.split_at_checked(32).unwrap_or((keys, &[]));
    let Some(cluster) = key(cluster) else {
        return Err(Failure::new(Code::Failed, "the invite brought something else than keys"));
    };
    if let Some(vault) = key(vault) {
        let import = Import { unlock: Some(unlock), ..Import::default() };
        keyring::import(env, dir, SharedKey::Vault, &vault, import)?;
    }
    keyring::import(env, dir, SharedKey::Cluster, &cluster, Import::default())
}

/// How often it is looked whether the node has joined.
const JOINED_EVERY: Duration = Duration::from_secs(1);
/// More than any invite has.
const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Args;
    use crate::unlock::Unlock;

    #[test]
    fn keys_are_put_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let (env, unlock) = (Env::real(), Unlock::default());
        assert!(import(&env, dir.path(), &[1; 31], &unlock).is_err());
        import(&env, dir.path(), &[1; 32], &unlock).unwrap();
        assert!(!SharedKey::Vault.path(dir.path()).exists());
        assert!(
            import(&env, dir.path(), &[2; 32], &unlock).is_err(),
            "another cluster's key stays"
        );
        let dir = tempfile::tempdir().unwrap();
        import(&env, dir.path(), &[[1; 32], [2; 32]].concat(), &unlock).unwrap();
        assert_eq!(*keyring::read(&env, dir.path(), SharedKey::Cluster, &unlock).unwrap(), [1; 32]);
        assert_eq!(*keyring::read(&env, dir.path(), SharedKey::Vault, &unlock).unwrap(), [2; 32]);
    }

    #[test]
    fn a_line_is_read_from_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, at) = (dir.path().join("invite"), dir.path().to_str().unwrap());
        let args = ["dfs-node", "--config-dir", at, "--data-dir", at];
        let config = |more: &[&str]| Args::parse_from([&args, more].concat()).resolve().unwrap();
        std::fs::write(&path, "not an invite\n").unwrap();
        for join in [path.to_str().unwrap(), "dfsi1qqqq", "/nonexistent/invite"] {
            assert_eq!(read(join, &config(&[])).unwrap_err().code, Code::Usage, "{join}");
        }
        import(&Env::real(), dir.path(), &[1; 32], &Unlock::default()).unwrap();
        // Gone, and nobody is known: it must not found a cluster of its own instead.
        assert!(read("/nonexistent/invite", &config(&[])).is_err());
        let known = config(&["--bootstrap", ":1"]);
        assert_eq!(read("/nonexistent/invite", &known).unwrap(), None);
    }
}
