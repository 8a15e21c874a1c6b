//! An honest machine beside a hostile member is lost with its disk, once everything that was
//! acknowledged had time to get where it belongs. The others remove it, and make its copies anew.

use std::time::Duration;

use dfs_server::{MemberError, Running};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, Handle};
use crate::disk::CrashPolicy;
use crate::net::Host;
use crate::rng::Rng;

/// Puts an empty disk into one of the honest machines, and waits until the others had time to make
/// good what was lost.
///
/// # Errors
/// What the operator could not do.
pub(crate) async fn replace_a_disk(cluster: &mut Cluster, rng: &mut Rng) -> Result<(), String> {
    tokio::time::sleep(SPREAD).await;
    let host = rng.below(cluster.honest());
    let lost = cluster.id(host).ok_or("a machine that is to be lost does not run")?;
    cluster.trace.fired("hostile: beside it a disk is lost");
    cluster.trace.say(|| format!("node {host} loses its disk"));
    cluster.kill(host, CrashPolicy::KeepAll, rng.flip()).await;
    cluster.wipe(host);
    let is_replaced_first = rng.flip();
    if is_replaced_first {
        join(cluster, host).await?;
    }
    give_up(cluster, host, &lost).await?;
    if !is_replaced_first {
        join(cluster, host).await?;
    }
    tokio::time::sleep(REMADE).await;
    Ok(())
}

/// Starts the node of a machine and waits until it is a member.
async fn join(cluster: &mut Cluster, host: Host) -> Result<(), String> {
    let end = Instant::now() + DONE_MAX;
    cluster.start(host).await.map_err(|error| format!("node {host} does not start: {error}"))?;
    while cluster.health(host).await.is_none() {
        if Instant::now() >= end {
            return Err(format!("node {host} is not let in with its new disk"));
        }
        cluster.admit_waiting().await;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Ok(())
}

/// Removes a member that does not come back, as its operator would.
async fn give_up(cluster: &Cluster, host: Host, lost: &str) -> Result<(), String> {
    let end = Instant::now() + DONE_MAX;
    let (mut why, mut tries) = (String::new(), 0);
    while Instant::now() < end {
        tries += 1;
        let others = (0..cluster.honest()).filter(|at| *at != host && cluster.has_vault(*at));
        for handle in others.filter_map(|at| cluster.handle(at)) {
            match timeout(ASK_MAX, remove(&handle, lost, Running::Stays, tries > PLAIN_TRIES)).await
            {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = "no answer".to_owned(),
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Err(format!("a member that lost its disk cannot be removed: {why}"))
}

/// Removes a member: by `dfs remove`, or by what that says it takes. `recovers`: also by passing by
/// the voters.
pub(crate) async fn remove(
    handle: &Handle,
    lost: &str,
    running: Running,
    recovers: bool,
) -> Result<(), MemberError> {
    let (client, names) = (&handle.client, [lost.to_owned()]);
    match client.remove_member(lost, running).await {
        // It has left by an earlier attempt that nobody heard the end of.
        Ok(_) | Err(MemberError::NoSuchMember(_)) => Ok(()),
        Err(MemberError::TooFewReplicas { .. }) => client.force_layout(&names).await.map(drop),
        // The voters that are left are no majority.
        Err(_) if recovers => client.recover_layout(&names).await.map(drop),
        Err(error) => Err(error),
    }
}

/// How long what was acknowledged by two replicas, one of which may lie, has until it is where it
/// belongs: some rounds of comparison and of looking for what is missing.
const SPREAD: Duration = Duration::from_secs(180);
/// How long the others have to make copies anew.
const REMADE: Duration = Duration::from_secs(120);
/// How long one thing may take that the operator does, attempts included.
const DONE_MAX: Duration = Duration::from_secs(180);
/// How often it is tried without by-passing the voters.
const PLAIN_TRIES: usize = 3;
/// How long one node is asked.
const ASK_MAX: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(500);
