//! Whether members still have what they should hold: whom a gateway challenges next, and what the
//! answers mean.
//!
//! A challenge is a few blobs and a nonce. Who has the bytes of a blob answers with their hash
//! under the nonce, which nobody could have kept instead of the bytes. Whoever says that it lacks a
//! blob, or cannot read it now, is *behind*: it is told, asked again, and shown. Only what no
//! honest member says counts against one: a digest that is not that of the bytes, or lacking again
//! what it claims to hold.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hlc::millis;
use crate::id::{BlobId, NodeId};
use crate::layout::epoch::MemberState;
use crate::record::refs::Use;

mod encoding;

/// What a member shows of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The hash of its bytes under the nonce.
    Digest([u8; 32]),
    /// It has not.
    HaveNot,
    /// It should have, and its disk cannot say now.
    Unread,
}

/// What an answer about one blob turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It has the bytes.
    Proved,
    /// It does not show them.
    Lacks {
        /// Whether it claimed to hold them just before.
        claimed: bool,
    },
    /// It made a digest up.
    Wrong,
}

/// How often members are challenged, and how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// The time between two challenges of one member with random blobs.
    pub random_every: Duration,
    /// How long it takes to come by every blob.
    pub cover_within: Duration,
    /// How long an answer may take. As long a challenged blob is given to no member that only
    /// stores.
    pub answer_within: Duration,
    /// When a silent member is asked again.
    pub silent_again: Duration,
}

/// What a gateway keeps of its challenges across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Possession {
    accounts: BTreeMap<NodeId, Account>,
    cover: Cover,
}

/// What is known of one member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Blobs that it was asked for and answered about.
    pub asked: u64,
    /// Of these, those that it has shown to have.
    pub proved: u64,
    /// When it last answered, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// What it did not show, the first [`LACKING_MAX`]: until it does, or nobody needs it any more.
    pub lacking: Vec<Lacking>,
    /// Since when it is silent.
    pub silent: Option<Silent>,
    /// Blobs about which it said what no honest member says, the first [`BREACHES_MAX`].
    pub breaches: Vec<BlobId>,
    /// When that was enough, in milliseconds since 1970.
    pub distrusted_ms: Option<u64>,
    /// When it is challenged next with random blobs.
    due_ms: u64,
    /// Whether it was seen on its way out since it is distrusted.
    drained: bool,
}

/// A blob that a member did not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lacking {
    /// The blob, and a version that needs it.
    pub of: Use,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    again_ms: u64,
    askings: u8,
}

/// A member that is in reach and does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How often it was asked since.
    pub askings: u8,
}

/// How far the look at every blob is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cover {
    began_ms: u64,
    after: Option<BlobId>,
    due_ms: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask a member again for what it did not show.
    Again(NodeId, Use),
    /// Challenge a member with random blobs.
    Random(NodeId),
    /// Challenge whoever holds the blobs that follow this one.
    Cover(Option<BlobId>),
    /// Nothing, for so long.
    Wait(Duration),
}

/// The answer of whoever has these bytes to a challenge with this nonce.
pub fn digest(nonce: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(nonce, bytes).as_bytes()
}

/// The digest that needs no bytes to be believed: two replicas or more show it, and none shows
/// anything else.
pub fn agreed(shown: &[Proof]) -> Option<[u8; 32]> {
    match shown {
        [Proof::Digest(first), rest @ ..] if !rest.is_empty() => {
            rest.iter().all(|other| *other == Proof::Digest(*first)).then_some(*first)
        }
        _ => None,
    }
}

impl Proof {
    /// What it means where `right` is the digest of the bytes.
    pub fn finding(self, right: &[u8; 32], claimed: bool) -> Finding {
        match self {
            Self::Digest(shown) if shown == *right => Finding::Proved,
            Self::Digest(_) => Finding::Wrong,
            Self::HaveNot => Finding::Lacks { claimed },
            Self::Unread => Finding::Lacks { claimed: false },
        }
    }
}

impl Account {
    /// Whether it was silent so often that this is no accident.
    pub fn is_suspect(&self) -> bool {
        self.silent.is_some_and(|silent| silent.askings >= SUSPECT_AFTER)
    }

    fn found(&mut self, now_ms: u64, of: Use, finding: Finding, cadence: &Cadence) {
        self.asked += 1;
        let known = self.lacking.iter().position(|lacking| lacking.of.blob == of.blob);
        match finding {
            Finding::Proved => {
                self.proved += 1;
                self.lacking.retain(|lacking| lacking.of.blob != of.blob);
                return;
            }
            // It was told before that it lacks the blob, and has not fetched it as it claims.
            Finding::Lacks { claimed: true } if known.is_some() => self.breach(now_ms, of.blob),
            Finding::Lacks { .. } => {}
            Finding::Wrong => self.breach(now_ms, of.blob),
        }
        let first = cadence.answer_within * LACKING_FIRST;
        if let Some(lacking) = known.and_then(|at| self.lacking.get_mut(at)) {
            lacking.askings = lacking.askings.saturating_add(1);
            let slower = 2_u32.saturating_pow(lacking.askings.saturating_sub(AGAIN_STEADY).into());
            let waits = first.saturating_mul(slower).min(DAY);
            lacking.again_ms = now_ms.saturating_add(millis(waits));
        } else if self.lacking.len() < LACKING_MAX {
            let again_ms = now_ms.saturating_add(millis(first));
            self.lacking.push(Lacking { of, since_ms: now_ms, again_ms, askings: 0 });
        }
    }

    /// Counts what no honest member says of a blob.
    fn breach(&mut self, now_ms: u64, blob: BlobId) {
        let is_repeated = self.breaches.contains(&blob);
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(blob);
        }
        if is_repeated || self.breaches.len() >= BREACHES_MAX {
            self.distrusted_ms.get_or_insert(now_ms);
        }
    }

    /// What it lacks is not asked for before it answers at all.
    fn put_off(&mut self, now_ms: u64, cadence: &Cadence) {
        let at = now_ms.saturating_add(millis(cadence.silent_again));
        self.lacking.iter_mut().for_each(|lacking| lacking.again_ms = lacking.again_ms.max(at));
    }
}

impl Possession {
    /// What is known of a member.
    pub fn account(&self, node: &NodeId) -> Option<&Account> {
        self.accounts.get(node)
    }

    /// Takes note of who stores for others now: newcomers are challenged soon, whoever left is
    /// forgotten. A distrusted member that was on its way out and is not any more was let in again
    /// by an operator: it begins anew.
    pub fn meet(&mut self, members: &BTreeMap<NodeId, MemberState>) {
        self.accounts.retain(|node, _| members.contains_key(node));
        for (node, state) in members {
            let account = self.accounts.entry(*node).or_default();
            let is_distrusted = account.distrusted_ms.is_some();
            match state {
                MemberState::Draining => account.drained = is_distrusted,
                MemberState::Active if account.drained => *account = Account::default(),
                MemberState::Active | MemberState::Out | MemberState::Left => {}
            }
        }
    }

    /// What to do now. `O(members)`.
    pub fn next(&self, now_ms: u64, cadence: &Cadence) -> Next {
        let mut next_ms = self.cover.due_ms;
        for (node, account) in &self.accounts {
            let again = account.lacking.iter().min_by_key(|lacking| lacking.again_ms);
            if let Some(lacking) = again.filter(|lacking| is_due(lacking.again_ms, now_ms, DAY)) {
                return Next::Again(*node, lacking.of);
            }
            next_ms = next_ms.min(again.map_or(u64::MAX, |lacking| lacking.again_ms));
        }
        let most_due = self.accounts.iter().min_by_key(|(_, account)| account.due_ms);
        if let Some((node, account)) = most_due {
            if is_due(account.due_ms, now_ms, cadence.random_every.max(cadence.silent_again)) {
                return Next::Random(*node);
            }
            next_ms = next_ms.min(account.due_ms);
        }
        if is_due(self.cover.due_ms, now_ms, cadence.random_every.max(GAP_MIN)) {
            return Next::Cover(self.cover.after);
        }
        Next::Wait(Duration::from_millis(next_ms.saturating_sub(now_ms)))
    }

    /// Notes what a member answered to a challenge, `random` or not.
    pub fn answered(
        &mut self,
        now_ms: u64,
        node: &NodeId,
        findings: &[(Use, Finding)],
        random: bool,
        cadence: &Cadence,
    ) {
        let Some(account) = self.accounts.get_mut(node) else { return };
        account.last_ms = Some(now_ms);
        account.silent = None;
        if random {
            account.due_ms = now_ms.saturating_add(millis(cadence.random_every));
        }
        for (of, finding) in findings {
            account.found(now_ms, *of, *finding, cadence);
        }
    }

    /// Notes that a member in reach did not answer.
    pub fn silent(&mut self, now_ms: u64, node: &NodeId, cadence: &Cadence) {
        let Some(account) = self.accounts.get_mut(node) else { return };
        let silent = account.silent.get_or_insert(Silent { since_ms: now_ms, askings: 0 });
        silent.askings = silent.askings.saturating_add(1);
        let soon = silent.askings < SUSPECT_AFTER;
        let again = if soon { cadence.silent_again } else { cadence.random_every };
        account.due_ms = now_ms.saturating_add(millis(again));
        account.put_off(now_ms, cadence);
    }

    /// Notes that a member could not be challenged: it is out of reach, is busy, or holds nothing
    /// that is at rest.
    pub fn unasked(&mut self, now_ms: u64, node: &NodeId, cadence: &Cadence) {
        let Some(account) = self.accounts.get_mut(node) else { return };
        account.due_ms = now_ms.saturating_add(millis(cadence.silent_again));
        account.put_off(now_ms, cadence);
    }

    /// Forgets that a member lacks a blob that nobody needs any more, or that it should not hold.
    pub fn needless(&mut self, node: &NodeId, blob: &BlobId) {
        if let Some(account) = self.accounts.get_mut(node) {
            account.lacking.retain(|lacking| lacking.of.blob != *blob);
        }
    }

    /// Goes on with the look at every blob after `after`, or begins it anew after the last one.
    /// `blobs` is about how many there are.
    pub fn covered(&mut self, now_ms: u64, after: Option<BlobId>, blobs: u64, cadence: &Cadence) {
        if after.is_none() || self.cover.began_ms == 0 {
            self.cover.began_ms = now_ms;
        }
        self.cover.after = after;
        let place = after.map_or(0, |id| {
            id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
        });
        let left = (u128::from(blobs) * u128::from(u64::MAX - place)) >> 64;
        let batches = u32::try_from(left / BLOBS_AT_ONCE as u128 + 1).unwrap_or(u32::MAX);
        let gone = Duration::from_millis(now_ms.saturating_sub(self.cover.began_ms));
        // One that is late is spread over a part of the time all the same.
        let time = cadence.cover_within.saturating_sub(gone).max(cadence.cover_within / LATE_PART);
        let gap = (time / batches).clamp(GAP_MIN, cadence.random_every.max(GAP_MIN));
        self.cover.due_ms = now_ms.saturating_add(millis(gap));
    }

    /// Begins anew with a member: an operator vouches for it.
    pub fn forgive(&mut self, node: &NodeId) {
        if let Some(account) = self.accounts.get_mut(node) {
            *account = Account::default();
        }
    }
}

/// Whether something is due; a clock that was set back must not put it off for ever.
fn is_due(due_ms: u64, now_ms: u64, longest: Duration) -> bool {
    due_ms <= now_ms || due_ms - now_ms > millis(longest)
}

impl Cadence {
    /// Everything after about `time`: for tests.
    pub fn short(time: Duration) -> Self {
        let (random_every, silent_again) = (time, time);
        Self { random_every, cover_within: time, answer_within: time / 2, silent_again }
    }
}

impl Default for Cadence {
    /// More than two hundred random blobs of each member a day, and every blob within 90 days on a
    /// gateway that runs five days of six.
    fn default() -> Self {
        Self {
            random_every: Duration::from_secs(57 * 60),
            cover_within: DAY * 75,
            answer_within: Duration::from_secs(10),
            silent_again: Duration::from_secs(15 * 60),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Blobs in one challenge: 8 MiB to read within the time for an answer, also on a busy disk.
pub const BLOBS_AT_ONCE: usize = 8;
/// Blobs that a member lacks and that are kept and asked for again: who lacks more lacks these too.
pub const LACKING_MAX: usize = 16;
/// Silent so often in a row, a member is suspect.
pub const SUSPECT_AFTER: u8 = 4;
/// Of so many different blobs a member says what no honest one says before it is distrusted; of one
/// blob twice is enough.
pub const BREACHES_MAX: usize = 3;
/// What a member lacks is asked for again after so many times the time for an answer: it was told,
/// and fetches it.
const LACKING_FIRST: u32 = 6;
/// After so many askings each further one comes twice as late, a day at most.
const AGAIN_STEADY: u8 = 8;
/// A look at every blob that is late takes this part of its time all the same.
const LATE_PART: u32 = 1000;
/// Two challenges of that look are so far apart at least.
const GAP_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
