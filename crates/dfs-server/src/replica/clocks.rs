//! What time it is, as far as peers bear this node's clock out, and whose clock is wrong.
//!
//! Everything but stamps goes by the time that a majority of the members in reach agrees on: a node
//! whose clock is wrong gives up nothing too soon and holds nobody up. Stamps come from this node's
//! own clock, so it gives out none while that is off by more than replicas take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfs_core::hlc::Hlc;
use dfs_core::id::NodeId;
use dfs_core::layout::epoch::MemberState;
use dfs_core::node::clocks::{Ahead, Compared, WrongClock};
use dfs_p2p::ClockTold;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Replica, millis};
use crate::error::Error;

/// How clocks compared when it was looked last.
#[derive(Default)]
pub(crate) struct Clocks {
    look: Mutex<Option<Look>>,
    /// Where this node's own clock jumped to when it jumped far ahead last, in milliseconds since
    /// 1970; kept over restarts.
    jumped: Mutex<Option<u64>>,
    /// When that and the time were noted on the disk.
    noted: Mutex<Option<Noted>>,
    /// Whether this node's own clock has jumped, and nobody was asked since: that of others may
    /// have as well, and they should know of this one.
    is_news: AtomicBool,
    /// When everyone was asked last.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

/// What is on the disk of this node's clock.
#[derive(Debug, Clone, Copy)]
struct Noted {
    at: Instant,
    jumped: Option<u64>,
}

#[derive(Clone)]
struct Look {
    at: Instant,
    /// What this node's clock read.
    unix_ms: u64,
    compared: Arc<Compared<NodeId>>,
}

impl Look {
    /// Whether it still says how things are: it is recent, and the clock has not jumped since.
    fn holds(&self, now: Instant, unix_ms: u64) -> bool {
        let since = now.saturating_duration_since(self.at);
        since < LOOK_EVERY && self.expects(now).abs_diff(unix_ms) < millis(JUMP_MIN)
    }

    /// What this node's clock reads now, unless it has jumped.
    fn expects(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at);
        self.unix_ms.saturating_add(millis(since))
    }
}

impl Replica {
    /// The time in milliseconds since 1970: by this node's clock, or by that of its peers when a
    /// majority says that this node's is off. Not for stamps.
    pub(crate) fn unix_ms(&self) -> u64 {
        let own = self.env.wall_ms();
        own.saturating_add_signed(self.clocks().correction().0)
    }

    /// This moment, as a stamp that is given to nothing.
    pub(crate) fn now(&self) -> Hlc {
        Hlc::from_unix_ms(self.unix_ms())
    }

    /// The time, if peers bear it out: then what counts from it is not forgotten too soon. Alone in
    /// a cluster a node has none but its own clock: unless that was further ahead before, or jumped
    /// far ahead within the time for which versions are kept.
    pub(crate) fn borne_out_ms(&self) -> Option<u64> {
        let state = self.layout.current();
        let is_alone = state.is_none_or(|state| state.counted().count() <= 1);
        let is_borne_out = match is_alone {
            true => !self.went_back() && !self.has_jumped(),
            false => self.clocks().is_borne_out(),
        };
        is_borne_out.then(|| self.unix_ms())
    }

    /// Whether this node has said something of itself at a later time than its clock reads now.
    fn went_back(&self) -> bool {
        let said = self.net().own_info().seq;
        said.is_ahead(self.env.wall_ms())
    }

    fn has_jumped(&self) -> bool {
        self.clocks();
        let (jumped, now_ms) = (*self.clocks.jumped.lock(), self.env.wall_ms());
        // One that was set back since is not where it jumped to.
        let is_there = |to: u64| now_ms.saturating_add(millis(FAR)) >= to;
        jumped.is_some_and(|to| {
            is_there(to) && now_ms.saturating_sub(to) < millis(self.grace.history)
        })
    }

    /// While this node did not run its clock may have been set: where it reads far more than when
    /// this node ran last, it has jumped.
    pub(crate) async fn note_start(&self) {
        let now_ms = self.env.wall_ms();
        // What cannot be read is not written over.
        let Ok(noted) = self.store.state(CLOCK).await else { return };
        if let Some((ran_ms, jumped)) = noted.and_then(|bytes| parse(&bytes)) {
            let is_far = now_ms.saturating_sub(ran_ms) >= millis(FAR);
            // One that is doubted already is not doubted for longer: a machine that is off each
            // weekend would never be believed.
            let doubted = jumped.filter(|to| now_ms.abs_diff(*to) < millis(self.grace.history));
            *self.clocks.jumped.lock() = if is_far { doubted.or(Some(now_ms)) } else { jumped };
        }
        self.note_clock().await;
    }

    /// Notes the time, so that the next start knows when this one ran.
    pub(crate) async fn note_clock(&self) {
        let (at, now_ms) = (self.env.mono(), self.env.wall_ms());
        let jumped = *self.clocks.jumped.lock();
        let both = [now_ms, jumped.unwrap_or_default()].map(u64::to_be_bytes);
        match self.store.put_state(CLOCK, both.concat()).await {
            Ok(()) => *self.clocks.noted.lock() = Some(Noted { at, jumped }),
            Err(error) => debug!(%error, "the time was not noted"),
        }
    }

    /// How the clocks of members in reach compare with this node's.
    pub(crate) fn clocks(&self) -> Arc<Compared<NodeId>> {
        let (now, unix_ms) = (self.env.mono(), self.env.wall_ms());
        let known = self.clocks.look.lock().clone();
        match known.filter(|look| look.holds(now, unix_ms)) {
            Some(look) => look.compared,
            None => self.compare_clocks(&self.told_clocks()),
        }
    }

    fn compare_clocks(&self, told: &[(NodeId, Option<ClockTold>)]) -> Arc<Compared<NodeId>> {
        let (at, unix_ms) = (self.env.mono(), self.env.wall_ms());
        let ahead = told.iter().filter_map(|(node, told)| {
            let reading = (*told)??;
            Some((*node, Ahead::of(reading.now(at), unix_ms)))
        });
        let compared = Arc::new(Compared::new(ahead.collect()));
        let look = Look { at, unix_ms, compared: compared.clone() };
        let before = self.clocks.look.lock().replace(look);
        let expected = before.map_or(unix_ms, |before| before.expects(at));
        if unix_ms.abs_diff(expected) >= millis(JUMP_MIN) {
            self.clocks.is_news.store(true, Ordering::Relaxed);
        }
        if unix_ms.saturating_sub(expected) >= millis(FAR) {
            *self.clocks.jumped.lock() = Some(unix_ms);
        }
        compared
    }

    /// What members in reach told of their clocks, whose word counts: not of those that lie.
    fn told_clocks(&self) -> Vec<(NodeId, Option<ClockTold>)> {
        let (Some(state), Some(net)) = (self.layout.current(), self.network.get()) else {
            return Vec::new();
        };
        let clocks = net.clocks();
        let told = state.members.iter().filter_map(|member| {
            let node = member.node_id;
            let told = clocks.get(&node)?;
            let counts = member.state != MemberState::Left
                && node != self.id
                && state.is_vouched(member)
                && self.conduct.distrusted(&node).is_none();
            counts.then_some((node, *told))
        });
        told.collect()
    }

    /// Refuses when this node's clock must give no stamp to a new version. Whoever has not told
    /// what its clock reads is asked and waited for, and before a refusal everyone is asked again.
    ///
    /// # Errors
    /// [`Error::ClockSkew`] says how far the clock is off, and which way.
    pub(crate) async fn need_right_clock(&self) -> Result<(), Error> {
        let mut told = self.told_clocks();
        let awaited = told.iter().filter(|(_, told)| told.is_none()).map(|(node, _)| *node);
        let awaited: Vec<_> = awaited.collect();
        if !awaited.is_empty() {
            self.net().read_clocks(&awaited, TOLD_WITHIN).await;
            told = self.told_clocks();
        }
        // Not as it was a moment ago: after a start peers come within that.
        if self.compare_clocks(&told).may_stamp().is_ok() {
            return Ok(());
        }
        // It may have been set right a moment ago, here or there.
        let refused = self.ask_clocks().await.may_stamp();
        refused.map_err(|wrong| {
            self.log_clocks();
            Error::ClockSkew(why_refused(&wrong))
        })
    }

    /// Asks every member in reach what its clock reads now, unless that was done a moment ago and
    /// this node's own has not jumped since. Whoever is asked hears what this node's reads.
    pub(crate) async fn ask_clocks(&self) -> Arc<Compared<NodeId>> {
        let mut asked = self.clocks.asked.lock().await;
        let is_news = self.clocks.is_news.swap(false, Ordering::Relaxed);
        if is_news || asked.is_none_or(|at| self.env.mono() - at >= ASKED_APART) {
            let nodes: Vec<_> = self.told_clocks().into_iter().map(|(node, _)| node).collect();
            self.net().read_clocks(&nodes, TOLD_WITHIN).await;
            *asked = Some(self.env.mono());
        }
        self.compare_clocks(&self.told_clocks())
    }

    /// Looks at the clocks, asks anew when this node's own has jumped, and logs whose is wrong.
    pub(crate) async fn watch_clocks(&self) {
        self.clocks();
        if self.clocks.is_news.load(Ordering::Relaxed) {
            self.ask_clocks().await;
        }
        let (noted, jumped) = (*self.clocks.noted.lock(), *self.clocks.jumped.lock());
        let is_noted =
            |noted: Noted| noted.jumped == jumped && self.env.mono() - noted.at < NOTED_EVERY;
        if !noted.is_some_and(is_noted) {
            self.note_clock().await;
        }
        self.log_clocks();
    }

    /// What to say of the clocks, this node's first; nothing while all agree.
    pub(crate) fn clock_sentences(&self) -> Vec<ClockSentence> {
        let compared = self.clocks();
        let mut sentences = Vec::new();
        if let Some(ahead) = compared.own_off() {
            let refuses = match compared.may_stamp() {
                Err(_) => "; it takes no writes until it is set right",
                Ok(()) => "",
            };
            let text = format!("the clock of this node is {}{refuses}", ahead.than("the others'"));
            sentences.push(ClockSentence { about: self.id, is_known: true, text });
        }
        for (node, ahead) in compared.peers_off() {
            let text =
                format!("the clock of node {} is {}", node.short(), ahead.than("the others'"));
            sentences.push(ClockSentence { about: node, is_known: true, text });
        }
        if let Some((node, ahead)) = compared.undecided() {
            let text = format!(
                "the clock of node {} is {}, and it cannot be told which of the two is wrong",
                node.short(),
                ahead.than("this node's")
            );
            sentences.push(ClockSentence { about: node, is_known: false, text });
        }
        sentences
    }

    /// Logs whose clock is wrong, of each node once a minute.
    fn log_clocks(&self) {
        for sentence in self.clock_sentences().into_iter().take(LOGGED_MAX) {
            let ClockSentence { about, text, .. } = sentence;
            if self.conduct.may_log(self.env.mono(), &about, "clock") {
                warn!(node = %about.short(), "{text}");
            }
        }
    }
}

/// When the node ran, and where its clock had jumped to, if it had.
fn parse(noted: &[u8]) -> Option<(u64, Option<u64>)> {
    let (ran, jumped) = noted.split_first_chunk()?;
    let jumped = u64::from_be_bytes(jumped.try_into().ok()?);
    Some((u64::from_be_bytes(*ran), Some(jumped).filter(|to| *to != 0)))
}

/// What is said of a wrong clock.
pub(crate) struct ClockSentence {
    /// Whose it is, or of two that differ the one that is not this node's.
    pub(crate) about: NodeId,
    /// Whether it can be told whose is wrong.
    pub(crate) is_known: bool,
    pub(crate) text: String,
}

fn why_refused(wrong: &WrongClock<NodeId>) -> String {
    match wrong {
        WrongClock::Own(ahead) => {
            let off = ahead.than("its peers'");
            format!("the clock of this node is {off}, so it writes nothing")
        }
        WrongClock::Either(node, ahead) => format!(
            "the clock of this node is {}, and it cannot be told which of the two is wrong, so it \
             writes nothing",
            ahead.than(format_args!("that of node {}", node.short()))
        ),
    }
}

/// How long a comparison counts: readings are no more frequent, but peers come and go.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A clock that moves so much between two looks has jumped, or was corrected for weeks.
const JUMP_MIN: Duration = Duration::from_secs(5);
/// How far ahead a clock jumps that was set wrong, rather than that its machine slept for a night.
const FAR: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a write waits for peers to tell what their clocks read: two slow round trips. Who does
/// not answer by then is asked about in vain.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Everyone is asked no more often than this, whatever anyone sends. Less than what a person takes
/// to set a clock and try again.
const ASKED_APART: Duration = Duration::from_millis(200);
/// Under which the time is noted.
const CLOCK: &str = "clock";
/// How often: a start after a crash takes no more than that for a part of its absence.
const NOTED_EVERY: Duration = Duration::from_secs(60 * 60);
/// Nodes of which is logged that their clocks are wrong.
const LOGGED_MAX: usize = 16;
