//! What is asked about the cluster, its nodes, and who may come in.

use dfs_server::{
    InviteView, NewInvite, PeerView, ProofView, RecoveryOutcome, RepairView, ScrubView,
};
use percent_encoding::utf8_percent_encode;

use crate::api::{AdmittedView, MemberView, TokenView};
use crate::cli::args::{Invite, InvitedRole};
use crate::cli::http::{Api, IN_QUERY};
use crate::exit::Failure;

impl Api {
    pub(super) fn peers(&self) -> Result<Vec<PeerView>, Failure> {
        self.get(&self.url("peers", None, &[]))
    }

    pub(super) fn proofs(&self) -> Result<Vec<ProofView>, Failure> {
        self.get(&self.url("proofs", None, &[]))
    }

    /// Takes a member out: `how` is `drain` or `remove`, perhaps with a query.
    pub(super) fn change_member(&self, node: &str, how: &str) -> Result<MemberView, Failure> {
        let node = utf8_percent_encode(node, IN_QUERY);
        let url = format!("{}/v1/members/{node}/{how}", self.base);
        self.post(&url)
    }

    pub(super) fn invite(&self, wish: &Invite) -> Result<NewInvite, Failure> {
        let cap = wish.capacity.map(|cap| cap.to_string());
        let address = wish.address.join(",");
        let role = if wish.role == InvitedRole::Gateway { "gateway" } else { "storage" };
        let mut query = vec![("role", role)];
        query.extend(cap.as_deref().map(|cap| ("cap", cap)));
        query.extend(wish.expires.as_deref().map(|expires| ("expires", expires)));
        query.extend(wish.name.as_deref().map(|name| ("name", name)));
        query.extend((!address.is_empty()).then_some(("address", address.as_str())));
        self.post(&self.url("invites", None, &query))
    }

    pub(super) fn invites(&self) -> Result<Vec<InviteView>, Failure> {
        self.get(&self.url("invites", None, &[]))
    }

    pub(super) fn revoke_invite(&self, id: &str) -> Result<InviteView, Failure> {
        let id = utf8_percent_encode(id, IN_QUERY);
        self.post(&format!("{}/v1/invites/{id}/revoke", self.base))
    }

    pub(super) fn create_token(&self, name: &str, read_only: bool) -> Result<TokenView, Failure> {
        let read_only = if read_only { "true" } else { "false" };
        self.post(&self.url("tokens", None, &[("name", name), ("read_only", read_only)]))
    }

    pub(super) fn tokens(&self) -> Result<Vec<TokenView>, Failure> {
        self.get(&self.url("tokens", None, &[]))
    }

    pub(super) fn revoke_token(&self, name: &str) -> Result<TokenView, Failure> {
        let name = utf8_percent_encode(name, IN_QUERY);
        self.post(&format!("{}/v1/tokens/{name}/revoke", self.base))
    }

    pub(super) fn admit(&self, node: &str, cap: Option<u64>) -> Result<AdmittedView, Failure> {
        let node = utf8_percent_encode(node, IN_QUERY);
        let cap = cap.map(|cap| format!("?cap={cap}")).unwrap_or_default();
        self.post(&format!("{}/v1/members/{node}/admit{cap}", self.base))
    }

    pub(super) fn scrub(&self) -> Result<ScrubView, Failure> {
        self.get(&self.url("scrub", None, &[]))
    }

    /// Tells the scrub to `start`, `pause` or `resume`.
    pub(super) fn tell_scrub(&self, verb: &str) -> Result<ScrubView, Failure> {
        self.post(&self.url(&format!("scrub/{verb}"), None, &[]))
    }

    /// Goes on without members that are gone: `how` is `force` or `recover`.
    pub(super) fn go_on_without(
        &self,
        nodes: &[String],
        how: &str,
    ) -> Result<RecoveryOutcome, Failure> {
        let nodes: Vec<_> =
            nodes.iter().map(|node| utf8_percent_encode(node, IN_QUERY).to_string()).collect();
        self.post(&format!("{}/v1/layout/{how}/{}", self.base, nodes.join(",")))
    }

    pub(super) fn repair(&self) -> Result<RepairView, Failure> {
        self.get(&self.url("repair", None, &[]))
    }

    /// Tells the repair to `start`, `pause` or `resume`.
    pub(super) fn tell_repair(&self, verb: &str) -> Result<RepairView, Failure> {
        self.post(&self.url(&format!("repair/{verb}"), None, &[]))
    }
}
