//! Invites made here: which admit still, what they give, and taking one back.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::address::Address;
use dfs_core::codec::{Canonical, DecodeError, Reader, Writer};
use dfs_core::id::{InviteId, hex};
use dfs_core::layout::epoch::{Burnt, EpochOp, EpochState, Grant, NO_CAP, Role};
use dfs_core::node::invite::{ADDR_BYTES_MAX, ADDRS_MAX, Invite, InviteKey};
use serde::{Deserialize, Serialize};
use tracing::info;
use zeroize::Zeroizing;

use super::Proposals;
use super::admit::{CAP, PeerRole};
use crate::error::{Error, InviteError};
use crate::json;
use crate::replica::{Replica, millis};

/// The keys that invites are made with and bring; on a node without a vault none is made.
pub(crate) struct InviteKeys {
    /// Makes the secrets.
    pub(crate) secrets: Option<InviteKey>,
    /// Due to a member that stores for others.
    pub(crate) storage: Zeroizing<Vec<u8>>,
    /// Due to a gateway.
    pub(crate) gateway: Zeroizing<Vec<u8>>,
}

/// The invites of this node.
pub(crate) struct Invites {
    replica: Arc<Replica>,
    proposals: Arc<Proposals>,
    keys: InviteKeys,
    /// One change of what was made here at a time.
    changing: tokio::sync::Mutex<()>,
}

/// What a new invite should grant.
#[derive(Debug, Clone, Default)]
pub struct InviteWish {
    /// Whether the machine is to have the vault's key, and not only to store for others.
    pub gateway: bool,
    /// Bytes that count of what it offers; [`CAP`] unless said.
    pub cap: Option<u64>,
    /// How long the invite lives; seven days unless said.
    pub lives: Option<Duration>,
    /// What to call it in the list.
    pub name: String,
    /// Where the newcomer finds this node; what the node says of itself unless said.
    pub addrs: Vec<Address>,
}

/// How an invite is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InviteState {
    /// It admits.
    Open,
    /// It admitted someone, or was taken back.
    Closed,
    /// Its time is over.
    Lapsed,
}

/// An invite that was made here, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// Its id.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// What the machine becomes.
    pub role: PeerRole,
    /// Bytes that count of what the machine offers, where that is limited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cap: Option<u64>,
    /// When it lapses.
    pub expires: String,
    /// How it is.
    pub state: InviteState,
}

/// A new invite: the line is the only place where its secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvite {
    /// What to hand to the machine, once.
    pub line: String,
    /// What it is.
    #[serde(flatten)]
    pub invite: InviteView,
}

impl Invites {
    pub(crate) fn new(proposals: Arc<Proposals>, keys: InviteKeys) -> Self {
        let replica = proposals.replica.clone();
        Self { replica, proposals, keys, changing: tokio::sync::Mutex::default() }
    }

    /// See [`dfs_p2p::Handler::invite_secret`].
    pub(crate) fn secret(&self, grant: &Grant) -> Option<Zeroizing<[u8; 32]>> {
        let state = self.replica.layout.current()?;
        let admits = state.is_gateway(&self.replica.id)
            && !state.is_burnt(&grant.invite)
            && grant.expires_ms >= self.replica.unix_ms();
        self.keys
            .secrets
            .as_ref()
            .filter(|_| admits)
            .map(|key| key.secret(&state.cluster_id, grant))
    }

    /// See [`dfs_p2p::Handler::keys_due`].
    pub(crate) fn due(&self, grant: Option<&Grant>) -> Zeroizing<Vec<u8>> {
        match grant.map(|grant| grant.role) {
            Some(Role::Gateway) => self.keys.gateway.clone(),
            // An admin has the vault's key.
            Some(Role::Storage | Role::Unvouched) | None => self.keys.storage.clone(),
        }
    }

    /// Makes an invite. Durable before its line is shown, so that it can be taken back.
    pub(crate) async fn make(&self, wish: InviteWish) -> Result<NewInvite, InviteError> {
        let state = self.replica.joined()?;
        let key = self.keys.secrets.as_ref().ok_or(Error::NoVaultKey)?;
        if !state.is_gateway(&self.replica.id) {
            return Err(Error::NotAdmin.into());
        }
        let lives = wish.lives.unwrap_or(LIVES);
        if lives > LIVES_MAX {
            return Err(InviteError::TooLong);
        }
        let now_ms = self.replica.unix_ms();
        let (role, cap) = match wish.gateway {
            true => (Role::Gateway, NO_CAP),
            false => (Role::Storage, wish.cap.unwrap_or(CAP)),
        };
        let invite = InviteId::new(self.replica.env.random());
        let grant = Grant { invite, role, cap, expires_ms: now_ms + millis(lives) };
        let mut addrs = wish.addrs;
        if addrs.is_empty() {
            addrs = self.own_addrs();
        }
        addrs.truncate(ADDRS_MAX);
        if addrs.is_empty() {
            return Err(InviteError::NoAddress);
        }
        if let Some(long) = addrs.iter().find(|addr| addr.to_string().len() > ADDR_BYTES_MAX) {
            return Err(InviteError::LongAddress(long.to_string()));
        }
        let mut name = wish.name;
        name.retain(|c| !c.is_control());
        let issued = Issued { grant, name: name.chars().take(NAME_MAX).collect() };
        self.keep(now_ms, issued.clone()).await?;
        let secret = key.secret(&state.cluster_id, &grant);
        let inviter = self.replica.id;
        let invite = Invite { cluster: state.cluster_id, inviter, addrs, grant, secret };
        info!(invite = ?grant.invite, ?role, "an invite was made");
        Ok(NewInvite { line: invite.to_line().to_string(), invite: view(&issued, &state, now_ms) })
    }

    /// Where others find this node, loopback last.
    fn own_addrs(&self) -> Vec<Address> {
        let network = self.replica.net();
        let mut addrs: Vec<Address> =
            network.own_info().addrs.iter().filter_map(|addr| addr.parse().ok()).collect();
        let listen = network.listen_addr();
        if addrs.is_empty() && !listen.ip().is_unspecified() {
            addrs.extend(listen.to_string().parse());
        }
        addrs.sort_by_key(Address::is_loopback);
        addrs
    }

    /// The invites made here that have not lapsed long ago, newest first.
    pub(crate) async fn list(&self) -> Result<Vec<InviteView>, InviteError> {
        let state = self.replica.joined()?;
        let now_ms = self.replica.unix_ms();
        let issued = self.issued().await?;
        Ok(issued.iter().rev().map(|issued| view(issued, &state, now_ms)).collect())
    }

    /// Takes an invite back, by the beginning of its id: it admits nobody from then on.
    pub(crate) async fn revoke(&self, id: &str) -> Result<InviteView, InviteError> {
        let issued = self.issued().await?;
        let has_id =
            |one: &&Issued| id.len() >= ID_MIN && hex(one.grant.invite.as_bytes()).starts_with(id);
        let mut found = issued.iter().filter(has_id);
        let (Some(one), None) = (found.next(), found.next()) else {
            return Err(InviteError::NoSuchInvite(id.to_owned()));
        };
        let Grant { invite, expires_ms, .. } = one.grant;
        let now_ms = self.replica.unix_ms();
        let ops = |state: &EpochState| {
            let burnt = Burnt { invite, expires_ms };
            let open = !state.is_burnt(&invite) && expires_ms >= now_ms;
            let op = EpochOp::BurnInvite { burnt, now_ms };
            Ok::<_, Error>(if open { vec![op] } else { Vec::new() })
        };
        self.proposals.decide_all(ops).await?;
        info!(?invite, "an invite was taken back");
        let state = self.replica.joined()?;
        Ok(view(one, &state, now_ms))
    }

    async fn issued(&self) -> Result<Vec<Issued>, Error> {
        let kept = self.replica.store.state(ISSUED).await?;
        let decode = |bytes: Vec<u8>| {
            let mut input = Reader::new(bytes.into());
            let list = input.list("invites", ISSUED_MAX)?;
            input.finish()?;
            Ok::<_, DecodeError>(list)
        };
        match kept.map(decode) {
            None => Ok(Vec::new()),
            Some(Ok(list)) => Ok(list),
            Some(Err(error)) => Err(Error::Store(Box::new(error))),
        }
    }

    /// Notes a new invite, and forgets those that lapsed long ago.
    async fn keep(&self, now_ms: u64, new: Issued) -> Result<(), InviteError> {
        let _one = self.changing.lock().await;
        let mut issued = self.issued().await?;
        issued.retain(|one| one.grant.expires_ms.saturating_add(millis(SHOWN_AFTER)) >= now_ms);
        if issued.len() >= ISSUED_MAX {
            return Err(InviteError::TooMany);
        }
        issued.push(new);
        let mut out = Writer::default();
        out.list(&issued);
        self.replica.store.put_state(ISSUED, out.into_vec()).await.map_err(Error::from)?;
        Ok(())
    }
}

/// What is kept of an invite: not its secret.
#[derive(Debug, Clone)]
struct Issued {
    grant: Grant,
    name: String,
}

impl Canonical for Issued {
    fn encode(&self, out: &mut Writer) {
        self.grant.encode(out);
        out.bytes(self.name.as_bytes());
    }

    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { grant: Grant::decode(input)?, name: input.string("name", 4 * NAME_MAX)? })
    }
}

fn view(issued: &Issued, state: &EpochState, now_ms: u64) -> InviteView {
    let Grant { invite, role, cap, expires_ms } = issued.grant;
    let shown = match () {
        () if state.is_burnt(&invite) => InviteState::Closed,
        () if expires_ms < now_ms => InviteState::Lapsed,
        () => InviteState::Open,
    };
    InviteView {
        id: hex(invite.as_bytes()),
        name: issued.name.clone(),
        role: role.into(),
        cap: Some(cap).filter(|cap| *cap != NO_CAP),
        expires: json::rfc3339(expires_ms),
        state: shown,
    }
}

/// What was made here.
const ISSUED: &str = "invites";
/// Invites of one node that have not lapsed long ago.
const ISSUED_MAX: usize = 500;
/// Letters of a name.
const NAME_MAX: usize = 64;
/// The shortest beginning of an id that names an invite.
const ID_MIN: usize = 4;
/// How long an invite lives unless said: it waits for someone to come by.
const LIVES: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest: what is forgotten in a drawer should not let anyone in.
const LIVES_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long a lapsed one is listed.
const SHOWN_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
