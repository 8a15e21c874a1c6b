//! `dfs peers`, its `--proof`, `dfs admit`, `dfs drain` and `dfs remove`.

use std::io::{self, Write};

use dfs_core::node::clocks::Ahead;
use dfs_server::{PeerState, PeerView, ProofState, ProofView, rfc3339};

use crate::api::MemberView;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, size, word};
use crate::exit::{Failure, tell};

pub(super) fn peers(api: &Api, out: &Output) -> Result<(), Failure> {
    let peers = api.peers()?;
    if out.json {
        return peers.iter().try_for_each(|peer| out.object(peer));
    }
    print(|shown| peers.iter().try_for_each(|peer| show_peer(peer, shown)))?;
    let is_away = |peer: &PeerView| matches!(peer.state, PeerState::Suspect | PeerState::Down);
    if peers.iter().all(|peer| peer.is_self || is_away(peer)) {
        // It may be alone because it is kept out, or because all others have moved.
        let health = api.status()?;
        if health["cluster"] == "" || peers.len() > 1 {
            tell(health["message"].as_str().unwrap_or_default());
        }
    }
    Ok(())
}

fn show_peer(peer: &PeerView, shown: &mut dyn Write) -> io::Result<()> {
    let mark = if peer.is_self { "*" } else { " " };
    writeln!(
        shown,
        "{mark} {:<9} {:<9} {:<22} {:<10} {:>10} of {:>10}  {:>16}  {}",
        word(&peer.state),
        peer.role.as_ref().map(word).unwrap_or_default(),
        peer.addr,
        peer.zone,
        size(peer.bytes),
        size(peer.cap.map_or(peer.capacity, |cap| cap.min(peer.capacity))),
        clock(peer),
        peer.id
    )?;
    if let Some(why) = &peer.clock {
        writeln!(shown, "  clock: {why}")?;
    }
    if let Some(waits) = &peer.drain {
        writeln!(shown, "  drain: {waits}")?;
    }
    if let Some(why) = &peer.disk {
        writeln!(shown, "  disk: {why}")?;
    }
    match &peer.distrusted {
        Some(why) => writeln!(shown, "  distrusted: {why}"),
        None => Ok(()),
    }
}

/// How far a peer's clock is from this node's.
fn clock(peer: &PeerView) -> String {
    match peer.clock_ahead_ms {
        _ if peer.is_self => "this clock".to_owned(),
        None => "clock ?".to_owned(),
        Some(ms) if ms.unsigned_abs() < CLOCKS_EQUAL_MS => "same clock".to_owned(),
        Some(ms) => Ahead(ms).to_string(),
    }
}

/// Clocks that differ by less are shown as the same: nobody would set one for that.
const CLOCKS_EQUAL_MS: u64 = 1000;

pub(super) fn proofs(api: &Api, out: &Output) -> Result<(), Failure> {
    let proofs = api.proofs()?;
    if out.json {
        return proofs.iter().try_for_each(|proof| out.object(proof));
    }
    if proofs.is_empty() {
        tell("this node challenges nobody: only gateways do, and only members that only store");
    }
    print(|shown| proofs.iter().try_for_each(|proof| show_proof(proof, shown)))
}

fn show_proof(proof: &ProofView, shown: &mut dyn Write) -> io::Result<()> {
    let ProofView { id, state, asked, proved, .. } = proof;
    let last = proof.last_ms.map_or_else(|| "never".to_owned(), rfc3339);
    writeln!(shown, "{:<10} last {last:<20}  {proved} of {asked} pieces shown  {id}", word(state))?;
    let since = proof.since_ms.map_or_else(String::new, |ms| format!("since {}", rfc3339(ms)));
    match state {
        ProofState::Unasked | ProofState::Proved => Ok(()),
        ProofState::Suspect => writeln!(shown, "  does not answer {since}"),
        ProofState::Behind | ProofState::Distrusted => {
            let lacks = proof.lacks.join(" ");
            writeln!(shown, "  {since}, pieces that it does not show: {lacks}")
        }
    }
}

pub(super) fn admit(api: &Api, node: &str, cap: Option<u64>, out: &Output) -> Result<(), Failure> {
    let admitted = api.admit(node, cap)?;
    if out.json {
        return out.object(&admitted);
    }
    match admitted.cap {
        Some(cap) => {
            tell(format_args!("{} stores for the cluster, {} at most", admitted.id, size(cap)));
        }
        None => tell(format_args!("{} is a gateway, and needs no admission", admitted.id)),
    }
    Ok(())
}

pub(super) fn drain(api: &Api, node: &str, out: &Output) -> Result<(), Failure> {
    let member = api.change_member(node, "drain")?;
    if out.json {
        return out.object(&member);
    }
    tell(format_args!("{} gives its data to the others and leaves then", member.id));
    tell_copies(&member);
    tell("hint: 'dfs status' shows how far it is; stop it once 'dfs peers' calls it left");
    Ok(())
}

/// Warns when from now on everything has fewer copies than it should.
fn tell_copies(member: &MemberView) {
    let MemberView { copies, copies_wanted, .. } = member;
    if copies < copies_wanted {
        let nodes = if *copies == 1 { "node that is" } else { "nodes that are" };
        tell(format_args!(
            "warning: the {copies} {nodes} left cannot hold {copies_wanted} copies of each file; \
             add a node"
        ));
    }
}

pub(super) fn remove(api: &Api, node: &str, force: bool, out: &Output) -> Result<(), Failure> {
    let how = if force { "remove?force=true" } else { "remove" };
    let member = api.change_member(node, how)?;
    if out.json {
        return out.object(&member);
    }
    tell(format_args!("{} is removed for good; what it held is copied anew", member.id));
    tell_copies(&member);
    Ok(())
}
