//! What an operator asks of a node: status, members, repair, scrub, what was collected, its disk.

use dfs_store::DiskView;

use super::Client;
use crate::disk::ScrubView;
use crate::error::{DiskError, Error, InviteError, MemberError};
use crate::gc::Collected;
use crate::layout::admit::Admission;
use crate::layout::drain::{Departure, Running};
use crate::layout::invite::{InviteView, InviteWish, NewInvite};
use crate::layout::recover::RecoveryOutcome;
use crate::proof::ProofView;
use crate::repair::RepairView;
use crate::status::{Health, NotReady, PeerView};

impl Client {
    /// Lets a member give its partitions to the others; it leaves by itself once it holds nothing.
    /// Returns when that is decided, long before it is done.
    ///
    /// `name` is the beginning of the member's id or the whole of its address, as the list of peers
    /// shows them.
    ///
    /// # Errors
    /// [`MemberError`]; nothing has changed unless it is [`MemberError::Failed`], after which the
    /// change may still be decided.
    pub async fn drain(&self, name: &str) -> Result<Departure, MemberError> {
        self.0.members.drain(name).await
    }

    /// Vouches for a member that only stores for others: it may hold data that counts, at most
    /// `cap` bytes of it. One that is drained stays, and one that is distrusted begins anew. For a
    /// gateway nothing changes.
    ///
    /// # Errors
    /// As [`Client::drain`].
    pub async fn admit(&self, name: &str, cap: u64) -> Result<Admission, MemberError> {
        self.0.members.admit(name, cap).await
    }

    /// Makes an invite of one machine. Whoever shows its line is given the keys until the first of
    /// them is a member; then it is used up.
    ///
    /// # Errors
    /// [`InviteError`]; no line is of any use then.
    pub async fn invite(&self, wish: InviteWish) -> Result<NewInvite, InviteError> {
        self.0.invites.make(wish).await
    }

    /// The invites that this node has made.
    ///
    /// # Errors
    /// [`InviteError::Failed`] when they cannot be read.
    pub async fn invites(&self) -> Result<Vec<InviteView>, InviteError> {
        self.0.invites.list().await
    }

    /// Takes an invite back, by the beginning of its id.
    ///
    /// # Errors
    /// [`InviteError`]; unless it is [`InviteError::Failed`] nothing has changed.
    pub async fn revoke_invite(&self, id: &str) -> Result<InviteView, InviteError> {
        self.0.invites.revoke(id).await
    }

    /// Takes out a member that will not come back, or that shall not though it runs. Its id never
    /// takes part again. Refused where what others in reach hold may not be all that was
    /// acknowledged.
    ///
    /// # Errors
    /// As [`Client::drain`].
    pub async fn remove_member(
        &self,
        name: &str,
        running: Running,
    ) -> Result<Departure, MemberError> {
        self.0.members.remove(name, running).await
    }

    /// Gives up members that are gone for ever, though other replicas may lack what they held: the
    /// partitions concerned go on with whoever is left.
    ///
    /// `names` are as [`Client::remove_member`] takes them.
    ///
    /// # Errors
    /// As [`Client::drain`]. Refused for one that answers, where nothing is at risk, and where a
    /// majority of the voters is among them.
    pub async fn force_layout(&self, names: &[String]) -> Result<RecoveryOutcome, MemberError> {
        self.0.members.force(names).await
    }

    /// Makes a new majority of voters from those that are left, where most are gone for ever, and
    /// gives up what partitions lost with them, as [`Client::force_layout`] does.
    ///
    /// It has to be told to every node that is left, each by its own operator, within an hour: a
    /// node follows only when it was told of the same loss. Every member that is not lost must be
    /// in reach, so that nobody knows of a newer layout. Those who decide do so once a majority of
    /// them was told.
    ///
    /// # Errors
    /// As [`Client::force_layout`], but refused where a majority of the voters is left, where
    /// another member is out of reach, and where others went on from another loss.
    pub async fn recover_layout(&self, names: &[String]) -> Result<RecoveryOutcome, MemberError> {
        self.0.members.recover(names).await
    }

    /// How far this node is with fetching what it should hold and does not.
    pub fn repair(&self) -> RepairView {
        self.0.repair.view()
    }

    /// Looks through every reference again, tries everything at once that waits for its turn, and
    /// ends a pause.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn start_repair(&self) -> Result<RepairView, DiskError> {
        Ok(self.0.repair.start().await?)
    }

    /// Fetches nothing that is missing until [`Client::resume_repair`] or [`Client::start_repair`],
    /// also over restarts. Fetches under way come to their end. Partitions do not move to this node
    /// meanwhile, and files have fewer copies than they should.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn pause_repair(&self) -> Result<RepairView, DiskError> {
        Ok(self.0.repair.pause(true).await?)
    }

    /// Lets the repair go on.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn resume_repair(&self) -> Result<RepairView, DiskError> {
        Ok(self.0.repair.pause(false).await?)
    }

    /// How far this node is with reading its disk back.
    pub fn scrub(&self) -> ScrubView {
        self.0.scrub.view()
    }

    /// Begins to read the whole disk back now, as fast as it goes beside other work; also when a
    /// pass is under way or at rest.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn start_scrub(&self) -> Result<ScrubView, DiskError> {
        Ok(self.0.scrub.start().await?)
    }

    /// Lets the scrub rest until [`Client::resume_scrub`] or [`Client::start_scrub`], also over
    /// restarts.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn pause_scrub(&self) -> Result<ScrubView, DiskError> {
        Ok(self.0.scrub.pause(true).await?)
    }

    /// Lets the scrub go on where it was.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub async fn resume_scrub(&self) -> Result<ScrubView, DiskError> {
        Ok(self.0.scrub.pause(false).await?)
    }

    /// What this node has given up since it started, because no version needs it.
    pub fn collected(&self) -> Collected {
        self.0.gc.collected()
    }

    /// What members that only store have shown to this node of what they should hold; nothing on a
    /// node that is no gateway.
    pub fn proofs(&self) -> Vec<ProofView> {
        self.0.proof.view()
    }

    /// This node and everyone it knows.
    pub fn peers(&self) -> Vec<PeerView> {
        self.0.status.peers()
    }

    /// How the cluster is, seen from here.
    ///
    /// # Errors
    /// [`Error`] when the node's own store fails.
    pub async fn health(&self) -> Result<Health, Error> {
        self.0.status.health().await
    }

    /// Why the node does not serve yet; empty when it does.
    pub fn not_ready(&self) -> Vec<NotReady> {
        self.0.status.not_ready()
    }

    /// What an operator should know though the node serves: a disk that is full, clocks that are
    /// wrong.
    pub fn notes(&self) -> Vec<NotReady> {
        self.0.status.notes()
    }

    /// Whether a failed disk made the node refuse writes.
    pub fn has_failed(&self) -> bool {
        self.0.replica.store.has_failed()
    }

    /// Whether this node is a member of a cluster and takes part.
    pub fn is_member(&self) -> bool {
        self.0.replica.joined().is_ok()
    }

    /// Whether the cluster let this node go.
    pub fn has_left(&self) -> bool {
        let replica = &self.0.replica;
        replica.layout.current().is_some_and(|state| replica.left(&state).is_some())
    }

    /// How this node's disk was when it was last looked at.
    pub fn disk(&self) -> DiskView {
        self.0.replica.store.disk()
    }

    /// Blobs on this node's disk that failed their check since it started.
    pub fn corrupt_blobs(&self) -> u64 {
        self.0.replica.store.corrupt_count()
    }

    /// Notes that the vault's key was written down and read back.
    ///
    /// # Errors
    /// [`DiskError`] when the disk refuses.
    pub async fn note_key_backup(&self) -> Result<(), DiskError> {
        Ok(self.0.status.note_key_backup().await?)
    }
}

impl Client {
    /// Waits, right after the start, until each member was dialled once: before that this node
    /// could only say that it is not connected.
    pub async fn first_dials(&self) {
        let replica = &self.0.replica;
        if let Ok(state) = replica.joined() {
            let members: Vec<_> = state.active().map(|member| member.node_id).collect();
            replica.net().first_dials(&members).await;
        }
    }
}
