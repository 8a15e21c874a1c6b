//! What a supervisor is told that asks for it, as systemd does with `Type=notify`: that the node is
//! ready, that it still runs, and that it is ending. Without one all of this does nothing.

use std::time::Duration;

use dfs_env::{Env, Task};
use sd_notify::NotifyState;
use tracing::warn;

/// Tells that the store is open and both ports are bound, and goes on to tell that the node runs
/// for as long as the returned task is kept, if the supervisor watches for that.
pub fn ready(env: &Env, url: &str) -> Option<Task<()>> {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving at {url}"))]);
    let every = sd_notify::watchdog_enabled()?;
    Some(env.spawn("watchdog", keep_telling(env.clone(), every / 2)))
}

/// From within the runtime that does all of a node's work: it falls silent where that stands still.
async fn keep_telling(env: Env, every: Duration) {
    loop {
        tell(&[NotifyState::Watchdog]);
        env.sleep(every).await;
    }
}

/// Tells that the node is ending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the supervisor was not told");
    }
}
