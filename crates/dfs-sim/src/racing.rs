//! Clients that race: each writes a name only if nobody was faster. Of those that saw the same
//! version, at most one may succeed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfs_core::id::{Vid, from_hex};
use dfs_core::name::FilePath;
use dfs_core::record::conditional::Condition;
use dfs_server::{Error, Mode};
use tokio::time::Instant;

use crate::checker::{Action, Operation};
use crate::cluster::{Cluster, Handle};
use crate::options::Options;
use crate::rng::Rng;
use crate::workload::{History, get, is_refused, outcome};

/// Who replaced what: for each name and version that was current, or none, the write that was told
/// it succeeded.
pub type Claims = Arc<Mutex<BTreeMap<(String, Option<Vid>), u64>>>;

/// The name with this number, of those that are only written under conditions.
pub fn racing_name(history: &History, number: usize) -> String {
    format!("race/{}", history.name(RACING_FIRST + number))
}

/// Whether a name is only written under conditions.
pub fn is_raced(name: &str) -> bool {
    name.starts_with("race/")
}

/// One client: works until `end`, against whichever node it finds running.
pub async fn race(
    number: usize,
    options: Arc<Options>,
    cluster: Arc<tokio::sync::Mutex<Cluster>>,
    history: History,
    claims: Claims,
    end: Instant,
) {
    let mut rng = Rng::new(options.seed).fork(500 + number as u64);
    let think = u64::try_from(options.think.as_micros()).unwrap_or(u64::MAX);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_micros(rng.between(1, think))).await;
        let handle = cluster.lock().await.any_with_vault(&mut rng);
        let Some(handle) = handle else { continue };
        let name = racing_name(&history, rng.below(RACING_NAMES));
        if rng.per_mille(300) {
            get(&handle, &history, &name, Mode::Quorum).await;
        } else {
            replace(&handle, &history, &claims, &name).await;
        }
    }
}

/// Looks at what is current, and replaces just that; says whether that was acknowledged.
///
/// # Panics
/// When `name` is not one of ours.
pub async fn replace(handle: &Handle, history: &History, claims: &Claims, name: &str) -> bool {
    let path = FilePath::parse(name).expect("a name of ours");
    let found = outcome(handle, history, handle.client.find(&path, None, Mode::Quorum)).await;
    let current = match found {
        Some(Ok(file)) => from_hex(&file.version()).map(Vid::new),
        Some(Err(Error::NotFound(_))) => None,
        Some(Err(error)) => {
            history.note_error(&error);
            return false;
        }
        None => return false,
    };
    let condition = current.map_or(Condition::Absent, Condition::Version);
    let (id, content) = history.new_content(CONTENT_BYTES);
    let start = history.now();
    let done = handle.client.store_if(&path, &content[..], condition);
    let end = match outcome(handle, history, done).await {
        Some(Ok(_)) => {
            let claimed =
                claims.lock().expect("no holder panics").insert((name.into(), current), id);
            if let Some(other) = claimed {
                history.violation(format!(
                    "writes {other} and {id} of {name:.9} both replaced {current:?}"
                ));
            }
            history.acknowledge();
            Some(history.now())
        }
        // Someone else was faster: nothing was written.
        Some(Err(Error::Condition)) => {
            history.refuse(id);
            return false;
        }
        Some(Err(error)) => {
            history.note_error(&error);
            if is_refused(&error) {
                history.refuse(id);
                return false;
            }
            None
        }
        None => None,
    };
    history.note(name, Operation { start, end, action: Action::Write(Some(id)) });
    end.is_some()
}

/// Names that clients race for.
pub const RACING_NAMES: usize = 2;
/// Clients that race.
pub const RACING_CLIENTS: usize = 3;
/// The numbers of their names begin above those of others.
const RACING_FIRST: usize = 1000;
/// Inline, and a chunk.
const CONTENT_BYTES: usize = 200;
