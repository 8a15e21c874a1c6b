//! Disks that are full or fail: this node's, as it sees it, and those of members that refused.

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochState;
use dfs_store::{DiskView, Shortage};

use super::Status;
use super::types::{Health, Level, NotReady, Remedy};
use crate::json::size;
use crate::replica::refusing::Refuses;

/// What there is to say of one disk.
pub(super) struct DiskSaid {
    pub(super) text: String,
    /// Whether something is wrong with it, and not only what is offered used up.
    pub(super) is_trouble: bool,
    remedy: Remedy,
}

impl Status {
    /// What there is to say of this node's disk.
    pub(super) fn own_disk(&self) -> Option<DiskSaid> {
        said(&self.replica.store.disk(), self.replica.store.held(), self.replica.store.capacity())
    }

    /// What is known of the disk of a member that refused something.
    pub(super) fn disk_of(&self, node: &NodeId) -> Option<String> {
        let refuses = self.replica.refusing.of(self.replica.env.mono(), node)?;
        Some(match refuses {
            Refuses::Full => "it has no room and takes no new content".to_owned(),
            Refuses::Fails => "its disk fails; its log says why".to_owned(),
        })
    }

    /// What there is to say of disks, for whoever asks whether this node serves.
    pub(super) fn disk_notes(&self) -> Vec<NotReady> {
        let own = self.own_disk().filter(|_| !self.replica.store.has_failed());
        own.into_iter().map(NotReady::from).collect()
    }

    /// Says which disks are full or fail, after anything worse.
    pub(super) fn say_disks(&self, health: &mut Health, state: &EpochState) {
        let own = self.own_disk();
        let others = state.present().map(|member| member.node_id).filter_map(|node| {
            let text = self.disk_of(&node).filter(|_| node != self.replica.id)?;
            Some(format!("node {}: {text}", node.short()))
        });
        let texts = own.iter().map(|said| said.text.clone()).chain(others);
        health.disks = texts.take(DISKS_SHOWN).collect();
        // The message says so already.
        if self.replica.store.has_failed() {
            return;
        }
        if let Some(said) = own {
            if said.is_trouble {
                health.health = health.health.max(Level::Degraded);
            }
            health.remedy.get_or_insert(said.remedy);
        }
        if let Some(text) = health.disks.first() {
            health.message = format!("{}; {text}", health.message);
        }
    }
}

impl From<DiskSaid> for NotReady {
    fn from(said: DiskSaid) -> Self {
        Self { reason: said.text, remedy: Some(said.remedy) }
    }
}

/// That the disk failed for good, in one sentence.
pub(super) fn failed(disk: &DiskView) -> Option<String> {
    let (root, why) = (disk.root.display(), disk.failed.as_ref()?);
    Some(format!(
        "this node's disk failed, and it takes no writes until it is restarted: {root}: {why}"
    ))
}

fn said(disk: &DiskView, used: u64, offered: u64) -> Option<DiskSaid> {
    let root = disk.root.display();
    let space = &disk.space;
    if let Some(text) = failed(disk) {
        return Some(DiskSaid { text, is_trouble: true, remedy: Remedy::MendDisk });
    }
    let (text, is_trouble, remedy) = match (disk.shortage, &disk.refuses) {
        (Some(Shortage::Bytes), _) => {
            let (free, total) = (size(space.free), size(space.total));
            let text = format!("the disk of {root} is full: {free} of {total} are free");
            (text, true, Remedy::FreeDisk)
        }
        (Some(Shortage::Files), _) => {
            let (free, total) = (space.files_free, space.files_total);
            let text = format!(
                "the disk of {root} has no room for more files: {free} of {total} inodes are free"
            );
            (text, true, Remedy::FreeDisk)
        }
        (_, Some(why)) => {
            (format!("the disk of {root} could not be written: {why}"), true, Remedy::MendDisk)
        }
        (Some(Shortage::Offer), None) => {
            let (used, offered) = (size(used), size(offered));
            let text = format!("{root} holds {used} of the {offered} that this node offers");
            (text, false, Remedy::MakeRoom)
        }
        (None, None) => return None,
    };
    Some(DiskSaid { text: format!("{text}; this node takes no new content"), is_trouble, remedy })
}

/// Disks of which something is said.
const DISKS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use dfs_env::DiskSpace;

    use super::*;

    #[test]
    fn a_disk_is_named_with_what_is_short() {
        let space = DiskSpace { total: 3 << 30, free: 20 << 20, files_total: 2000, files_free: 7 };
        let fine =
            DiskView { root: "/mnt/d".into(), space, shortage: None, refuses: None, failed: None };
        let short = |shortage| DiskView { shortage: Some(shortage), ..fine.clone() };
        let read_only = || Some("Read-only file system (os error 30)".to_owned());
        assert!(said(&fine, 1, 2).is_none());
        for (disk, expected) in [
            (
                short(Shortage::Bytes),
                "the disk of /mnt/d is full: 20.0 MiB of 3.0 GiB are free; this node takes no new \
                 content",
            ),
            (
                short(Shortage::Files),
                "the disk of /mnt/d has no room for more files: 7 of 2000 inodes are free; this \
                 node takes no new content",
            ),
            (
                short(Shortage::Offer),
                "/mnt/d holds 9.5 GiB of the 10.0 GiB that this node offers; this node takes no \
                 new content",
            ),
            (
                DiskView { refuses: read_only(), ..fine.clone() },
                "the disk of /mnt/d could not be written: Read-only file system (os error 30); \
                 this node takes no new content",
            ),
            (
                DiskView { failed: read_only(), ..short(Shortage::Bytes) },
                "this node's disk failed, and it takes no writes until it is restarted: /mnt/d: \
                 Read-only file system (os error 30)",
            ),
        ] {
            let said = said(&disk, (19 << 30) / 2, 10 << 30).unwrap();
            assert_eq!(said.text, expected);
            assert_eq!(said.is_trouble, disk.shortage != Some(Shortage::Offer));
        }
    }
}
