//! `dfs key`: keys to and from paper. Secrets are never arguments.

use std::io::{Read, Write};
use std::path::Path;

use dfs_env::Env;
use dfs_store::keyfile::KeyKind;
use dfs_store::keys::{ClusterKey, VaultKey};
use zeroize::Zeroizing;

use crate::cli::args::{Args, KeyVerb};
use crate::cli::http::Api;
use crate::cli::output::Output;
use crate::config::default_config_dir;
use crate::exit::{Code, Failure};
use crate::keyring;

pub(super) fn run(args: &Args, verb: &KeyVerb, out: &Output) -> Result<(), Failure> {
    let dir = match &args.config_dir {
        Some(dir) => dir.clone(),
        None => default_config_dir()?,
    };
    match verb {
        KeyVerb::Export { cluster } => export(&dir, kind(*cluster), out),
        KeyVerb::Import { cluster, replace } => {
            let key = read_key(kind(*cluster))?;
            keyring::import(&Env::real(), &dir, kind(*cluster), &key, *replace)?;
            eprintln!("the key is in {}; restart nodes that should use it", dir.display());
            Ok(())
        }
        KeyVerb::Verify { cluster } => verify(args, &dir, kind(*cluster)),
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
    writeln!(std::io::stdout().lock(), "{}", words.as_str())?;
    if kind == KeyKind::Vault {
        eprintln!("write these 24 words down and keep them offline: without them, or vault.key,");
        eprintln!("nobody can read the files. Then check what you wrote with 'dfs key verify'.");
    }
    Ok(())
}

fn verify(args: &Args, dir: &Path, kind: KeyKind) -> Result<(), Failure> {
    let known = Zeroizing::new(keyring::read(&Env::real(), dir, kind)?);
    if *read_key(kind)? != *known {
        return Err(Failure::new(Code::Key, "this is a valid key, but not the one in use"));
    }
    eprintln!("the backup matches the key in use");
    if kind == KeyKind::Vault {
        match Api::find(args).and_then(|api| api.note_key_backup()) {
            Ok(()) => {}
            Err(failure) => eprintln!("'dfs status' will not know of it: {}", failure.message),
        }
    }
    Ok(())
}

/// A key from stdin.
fn read_key(kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().lock().take(KEY_TEXT_BYTES_MAX).read_to_string(&mut text)?;
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
