//! What is shown of the proofs of members.

use dfs_core::id::{NodeId, hex};
use dfs_core::replica::possession::Account;
use serde::{Deserialize, Serialize};

use super::{Prover, storing};

/// How a member stands, by what it showed to this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofState {
    /// It was not asked yet, or holds nothing.
    Unasked,
    /// It has shown all that it was asked for.
    Proved,
    /// It lacks pieces that it should hold, and was told so.
    Behind,
    /// It is in reach and did not answer, four times.
    Suspect,
    /// It said what no honest member says.
    Distrusted,
}

/// The proofs of one member that only stores, as this gateway saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofView {
    /// The member's id.
    pub id: String,
    /// How it stands.
    pub state: ProofState,
    /// Pieces that it was asked for and answered about.
    pub asked: u64,
    /// Of these, those that it has shown.
    pub proved: u64,
    /// When it last answered, in milliseconds since 1970.
    #[serde(rename = "last", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_ms: Option<u64>,
    /// Pieces that it did not show and should have: the beginnings of their ids, the first few.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lacks: Vec<String>,
    /// Since when it stands so, in milliseconds since 1970.
    #[serde(rename = "since", with = "crate::json::optional_moment")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_ms: Option<u64>,
}

impl Prover {
    /// What members have shown to this node; nothing on one that is no gateway.
    pub(crate) fn view(&self) -> Vec<ProofView> {
        let state = self.replica.joined().ok().filter(|state| self.governs(state));
        let Some(state) = state else { return Vec::new() };
        let possession = self.replica.conduct.possession();
        let members = storing(&state).into_keys();
        members.map(|node| view(&node, possession.account(&node))).collect()
    }
}

fn view(node: &NodeId, account: Option<&Account>) -> ProofView {
    let unknown = Account::default();
    let account = account.unwrap_or(&unknown);
    let lacking_ms = account.lacking.iter().map(|lacking| lacking.since_ms).min();
    let silent_ms = account.silent.filter(|_| account.is_suspect()).map(|silent| silent.since_ms);
    let (state, since_ms) = match (account.distrusted_ms, silent_ms, lacking_ms) {
        (Some(since_ms), _, _) => (ProofState::Distrusted, Some(since_ms)),
        (None, Some(since_ms), _) => (ProofState::Suspect, Some(since_ms)),
        (None, None, Some(since_ms)) => (ProofState::Behind, Some(since_ms)),
        (None, None, None) if account.asked > 0 => (ProofState::Proved, None),
        (None, None, None) => (ProofState::Unasked, None),
    };
    let lacks = account.lacking.iter().map(|lacking| hex(&lacking.of.blob.as_bytes()[..8]));
    ProofView {
        id: node.to_string(),
        state,
        asked: account.asked,
        proved: account.proved,
        last_ms: account.last_ms,
        lacks: lacks.collect(),
        since_ms,
    }
}
