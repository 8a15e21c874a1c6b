//! `dfs key`: keys to and from paper. Secrets are never arguments.

use std::io::Read;
use std::path::Path;

use dfs_env::Env;
use dfs_store::keyfile::KeyKind;
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use zeroize::Zeroizing;

use crate::cli::args::{Args, KeyVerb};
use crate::cli::http::Api;
use crate::cli::output::{Output, print};
use crate::config::default_config_dir;
use crate::exit::{Code, Failure, tell};
use crate::keyring;

pub(super) fn run(args: &Args, verb: &KeyVerb, out: &Output) -> Result<(), Failure> {
    let dir = match &args.config_dir {
        Some(dir) => dir.clone(),
        None => default_config_dir()?,
    };
    match verb {
        KeyVerb::Export { cluster } => export(&dir, kind(*cluster), out),
        KeyVerb::Import { cluster, replace } => import(&dir, kind(*cluster), *replace, out),
        KeyVerb::Verify { cluster } => verify(args, &dir, kind(*cluster), out),
    }
}

fn import(dir: &Path, kind: KeyKind, replace: bool, out: &Output) -> Result<(), Failure> {
    let key = read_key(kind)?;
    keyring::import(&Env::real(), dir, kind, &key, replace)?;
    if out.json {
        let file = keyring::path(dir, kind).display().to_string();
        return out.object(&serde_json::json!({ "key": name(kind), "file": file }));
    }
    tell(format_args!("the key is in {}; restart nodes that should use it", dir.display()));
    Ok(())
}

fn name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Cluster => "cluster",
        KeyKind::Vault | KeyKind::Node | KeyKind::Writer => "vault",
    }
}

fn kind(cluster: bool) -> KeyKind {
    if cluster { KeyKind::Cluster } else { KeyKind::Vault }
}

fn export(dir: &Path, kind: KeyKind, out: &Output) -> Result<(), Failure> {
    let key = Zeroizing::new(keyring::read(&Env::real(), dir, kind)?);
    let words = match kind {
        KeyKind::Cluster => ClusterKey::from_bytes(*key).to_text(),
        KeyKind::Vault | KeyKind::Node | KeyKind::Writer => VaultKey::from_bytes(*key).to_words(),
    };
    if out.json {
        return out.object(&serde_json::json!({ "words": words.as_str() }));
    }
    print(|text| writeln!(text, "{}", words.as_str()))?;
    if kind == KeyKind::Vault {
        tell("write these 24 words down and keep them offline: without them, or vault.key,");
        tell("nobody can read the files. Then check what you wrote with 'dfs key verify'.");
    }
    Ok(())
}

fn verify(args: &Args, dir: &Path, kind: KeyKind, out: &Output) -> Result<(), Failure> {
    let known = Zeroizing::new(keyring::read(&Env::real(), dir, kind)?);
    if *read_key(kind)? != *known {
        return Err(Failure::new(Code::Key, "this is a valid key, but not the one in use"));
    }
    if !out.json {
        tell("the backup matches the key in use");
    }
    let noted = kind == KeyKind::Vault && note_backup(args);
    if out.json {
        let value = serde_json::json!({ "key": name(kind), "matches": true, "noted": noted });
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
fn read_key(kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().lock().take(KEY_TEXT_BYTES_MAX).read_to_string(&mut text).map_err(
        |error| Failure::new(Code::Failed, format!("cannot read the key from stdin: {error}")),
    )?;
    let text = text.trim();
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Key, error).hint("give the 24 words, or the text form, on stdin")
    };
    let key = match kind {
        KeyKind::Cluster => *ClusterKey::from_text(text).map_err(|error| bad(&error))?.expose(),
        KeyKind::Vault | KeyKind::Node | KeyKind::Writer => {
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
