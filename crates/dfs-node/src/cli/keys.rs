//! `dfs key`: keys to and from paper. Secrets are never arguments.

use std::io::Read;
use std::path::Path;

use dfs_env::Env;
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use zeroize::Zeroizing;

use crate::cli::args::{Args, Key, KeyVerb};
use crate::cli::http::Api;
use crate::cli::output::{Output, print};
use crate::config::default_config_dir;
use crate::exit::{Code, Failure, tell};
use crate::keyring::{self, Import, SharedKey};
use crate::limits;
use crate::unlock::Unlock;

pub(super) fn run(args: &Args, key: &Key, out: &Output) -> Result<(), Failure> {
    limits::forbid_core_dumps();
    let unlock = Unlock::new(key.passphrase_file.clone());
    let dir = match &args.config_dir {
        Some(dir) => dir.clone(),
        None => default_config_dir()?,
    };
    match &key.verb {
        KeyVerb::Export { cluster } => export(&dir, which(*cluster), &unlock, out),
        KeyVerb::Import { cluster, replace } => import(&dir, which(*cluster), *replace, out),
        KeyVerb::Protect { new_passphrase_file } => {
            // The old one is asked for first.
            keyring::read(&Env::real(), &dir, SharedKey::Vault, &unlock)?;
            let new = Unlock::new(new_passphrase_file.clone()).new_passphrase()?;
            protect(&dir, &unlock, Some(&new), out)
        }
        KeyVerb::Unprotect => protect(&dir, &unlock, None, out),
        KeyVerb::Verify { cluster } => verify(args, &dir, which(*cluster), &unlock, out),
    }
}

fn protect(dir: &Path, unlock: &Unlock, new: Option<&str>, out: &Output) -> Result<(), Failure> {
    keyring::protect(&Env::real(), dir, unlock, new)?;
    if out.json {
        return out.object(&serde_json::json!({ "key": "vault", "protected": new.is_some() }));
    }
    let file = SharedKey::Vault.path(dir);
    match new {
        Some(_) => {
            tell(format_args!("{} is closed: nodes need the passphrase to start", file.display()));
            tell("keep the 24 words of 'dfs key export' too: without either, nobody can read them");
        }
        None => tell(format_args!("{} is open to whoever can read it", file.display())),
    }
    Ok(())
}

fn import(dir: &Path, which: SharedKey, replace: bool, out: &Output) -> Result<(), Failure> {
    let key = read_key(which)?;
    keyring::import(&Env::real(), dir, which, &key, Import { replace, unlock: None })?;
    if out.json {
        let file = which.path(dir).display().to_string();
        return out.object(&serde_json::json!({ "key": which.name(), "file": file }));
    }
    tell(format_args!("the key is in {}; restart nodes that should use it", dir.display()));
    Ok(())
}

fn which(cluster: bool) -> SharedKey {
    if cluster { SharedKey::Cluster } else { SharedKey::Vault }
}

fn export(dir: &Path, which: SharedKey, unlock: &Unlock, out: &Output) -> Result<(), Failure> {
    let key = keyring::read(&Env::real(), dir, which, unlock)?;
    let words = match which {
        SharedKey::Cluster => ClusterKey::from_bytes(*key).to_text(),
        SharedKey::Vault => VaultKey::from_bytes(*key).to_words(),
    };
    if out.json {
        return out.object(&serde_json::json!({ "words": words.as_str() }));
    }
    print(|text| writeln!(text, "{}", words.as_str()))?;
    if which == SharedKey::Vault {
        tell("write these 24 words down and keep them offline: without them, or vault.key,");
        tell("nobody can read the files. Then check what you wrote with 'dfs key verify'.");
    }
    Ok(())
}

fn verify(
    args: &Args,
    dir: &Path,
    which: SharedKey,
    unlock: &Unlock,
    out: &Output,
) -> Result<(), Failure> {
    let known = keyring::read(&Env::real(), dir, which, unlock)?;
    if *read_key(which)? != *known {
        return Err(Failure::new(Code::Key, "this is a valid key, but not the one in use"));
    }
    if !out.json {
        tell("the backup matches the key in use");
    }
    let noted = which == SharedKey::Vault && note_backup(args);
    if out.json {
        let value = serde_json::json!({ "key": which.name(), "matches": true, "noted": noted });
        return out.object(&value);
    }
    Ok(())
}

fn note_backup(args: &Args) -> bool {
    match Api::find(args).and_then(|api| api.note_key_backup()) {
        Ok(()) => true,
        Err(failure) => {
            tell(format_args!("'dfs status' will not know of it: {}", failure.message));
            false
        }
    }
}

/// A key from stdin.
fn read_key(which: SharedKey) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().lock().take(KEY_TEXT_BYTES_MAX).read_to_string(&mut text).map_err(
        |error| Failure::new(Code::Failed, format!("cannot read the key from stdin: {error}")),
    )?;
    let text = text.trim();
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Key, error).hint("give the 24 words, or the text form, on stdin")
    };
    let key = match which {
        SharedKey::Cluster => *ClusterKey::from_text(text).map_err(|error| bad(&error))?.expose(),
        SharedKey::Vault => {
            let key = if text.contains(char::is_whitespace) {
                VaultKey::from_words(text).map_err(|error| bad(&error))?
            } else {
                VaultKey::from_text(text).map_err(|error| bad(&error))?
            };
            *key.expose()
        }
    };
    Ok(Zeroizing::new(key))
}

/// 24 words and generous spacing.
const KEY_TEXT_BYTES_MAX: u64 = 4096;
