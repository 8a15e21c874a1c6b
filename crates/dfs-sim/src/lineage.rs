//! Which version had seen which, as the nodes log it when they make and acknowledge one.
//!
//! Concurrent versions of a name are all kept: an acknowledged one may go only when some later one
//! had seen it. Clients cannot notice when that goes wrong, for they see one version at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use dfs_core::codec::Canonical;
use dfs_core::id::hex;
use dfs_core::record::retention::VERSIONS_KEPT;
use dfs_core::record::version::{CONTEXT_MAX, Kind};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::audit::Records;
use crate::options::Options;

/// Every version ever made, by the name it is of; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lineage(Arc<Mutex<BTreeMap<String, BTreeMap<String, Made>>>>);

/// One version.
#[derive(Debug, Default)]
struct Made {
    actor: u64,
    hlc: u64,
    /// What its writer had seen: for each actor, its highest stamp.
    context: BTreeMap<u64, u64>,
    /// Whether it deletes the name.
    dead: bool,
    acknowledged: bool,
    /// Whether a majority of its replicas had it by then. A directory whose name is out of reach is
    /// named again wherever that can be done.
    by_majority: bool,
}

impl Lineage {
    fn made(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Made>>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Whether nobody has logged a version.
    pub fn is_empty(&self) -> bool {
        self.made().is_empty()
    }

    /// Versions that had to be kept, are not among the records, and that no version ever had seen.
    /// Where tombstones are purged none of these counts.
    pub fn lost(&self, records: &Records, options: &Options) -> Vec<String> {
        let heads: BTreeMap<String, Vec<String>> = records
            .iter()
            .map(|(key, record)| {
                let vids = record.heads().map(|head| head.vid.to_string());
                (hex(&key.to_canonical()), vids.collect())
            })
            .collect();
        let mut lost = Vec::new();
        for (key, versions) in self.made().iter() {
            let dots = versions.values().map(|made| ((made.actor, made.hlc), made)).collect();
            for (vid, version) in versions.iter().filter(|(_, version)| version.is_due(options)) {
                if version.dead && options.collects {
                    continue;
                }
                let is_head = heads.get(key).is_some_and(|vids| vids.contains(vid));
                if !is_head && !versions.values().any(|later| later.has_seen(version, &dots)) {
                    lost.push(format!("version {vid} of record {key}"));
                }
            }
        }
        lost
    }
}

impl Lineage {
    /// Names whose records keep fewer versions than were acknowledged, and fewer than they must:
    /// where no run lasts as long as versions are kept, only their number bounds them.
    pub fn forgotten(&self, records: &Records, options: &Options) -> Vec<String> {
        let mut forgotten = Vec::new();
        let made = self.made();
        for (key, record) in records {
            let key = hex(&key.to_canonical());
            let Some(versions) = made.get(&key) else { continue };
            let due = versions.values().filter(|made| made.is_due(options) && !made.dead);
            let written = due.count();
            let heads = record.heads().filter(|head| head.kind == Kind::Live);
            let old = record.heads().flat_map(|head| &head.retained).map(|old| old.vid);
            let kept = old.chain(heads.map(|head| head.vid)).collect::<BTreeSet<_>>().len();
            if kept < written.min(VERSIONS_KEPT) {
                forgotten.push(format!("{kept} of {written} versions of record {key}"));
            }
        }
        forgotten
    }
}

impl Made {
    /// Whether it was acknowledged by as many replicas as no fault of this run takes away.
    fn is_due(&self, options: &Options) -> bool {
        self.acknowledged && (self.by_majority || !options.loses)
    }

    /// Whether the writer of this version had seen `earlier`. A context names the last version it
    /// knew of an actor: whether the ones before that were seen is for that one to say.
    fn has_seen(&self, earlier: &Self, dots: &BTreeMap<(u64, u64), &Self>) -> bool {
        let mut at = self;
        loop {
            let known = at.context.get(&earlier.actor).copied();
            match known {
                // A full context has let go of the oldest.
                _ if at.context.len() >= CONTEXT_MAX => return true,
                None => return false,
                Some(hlc) if hlc <= earlier.hlc => return hlc == earlier.hlc,
                Some(hlc) => match dots.get(&(earlier.actor, hlc)) {
                    Some(next) if next.hlc < at.hlc => at = next,
                    // Never, as far as nodes log what they do.
                    _ => return true,
                },
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Lineage {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The place logs other things as well.
        let Some(vid) = fields.texts.remove("vid") else { return };
        let key = fields.texts.remove("key").unwrap_or_default();
        let mut made = self.made();
        let version = made.entry(key).or_default().entry(vid).or_default();
        match fields.texts.get("context") {
            None => {
                version.acknowledged = true;
                let by_majority = fields.texts.get("by_majority");
                version.by_majority = by_majority.is_some_and(|so| so == "true");
            }
            Some(context) => {
                version.actor = fields.numbers.get("actor").copied().unwrap_or_default();
                version.hlc = fields.numbers.get("hlc").copied().unwrap_or_default();
                version.context = numbers(context);
                version.dead = fields.texts.get("dead").is_some_and(|dead| dead == "true");
            }
        }
    }
}

/// The pairs of numbers in a map as it is printed.
fn numbers(printed: &str) -> BTreeMap<u64, u64> {
    let digits = printed.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers: Vec<u64> = digits.filter_map(|part| part.parse().ok()).collect();
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

#[derive(Debug, Default)]
struct Fields {
    texts: BTreeMap<&'static str, String>,
    numbers: BTreeMap<&'static str, u64>,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.insert(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.texts.insert(field.name(), format!("{value:?}"));
    }
}

/// Where versions are made.
pub const TARGET: &str = "dfs_server::names";

#[cfg(test)]
mod tests {
    use super::*;

    fn made(hlc: u64, context: &str, acknowledged: bool) -> Made {
        let by_majority = acknowledged;
        Made { actor: 1, hlc, context: numbers(context), dead: false, acknowledged, by_majority }
    }

    #[track_caller]
    fn check(versions: impl IntoIterator<Item = Made>, expected: usize) {
        check_with(&Options::of(1), versions, expected);
    }

    #[track_caller]
    fn check_with(options: &Options, versions: impl IntoIterator<Item = Made>, expected: usize) {
        let versions = versions.into_iter().enumerate();
        let versions = versions.map(|(at, version)| (at.to_string(), version)).collect();
        let lineage = Lineage(Arc::new(Mutex::new([("name".to_owned(), versions)].into())));
        assert_eq!(lineage.lost(&Records::new(), options).len(), expected);
    }

    #[test]
    fn a_version_is_lost_unless_a_later_one_had_seen_it() {
        check([made(5, "{}", true), made(9, "{1: Hlc(5)}", false)], 0);
        check([made(5, "{}", true), made(9, "{1: Hlc(4)}", false)], 1);
        check([made(5, "{}", true), made(9, "{2: Hlc(5)}", false)], 1);
        check([made(5, "{}", false), made(9, "{}", false)], 0);
    }

    #[test]
    fn who_saw_an_actors_later_version_need_not_have_seen_the_earlier() {
        let last = || Made { actor: 2, ..made(9, "{1: Hlc(7)}", false) };
        check([made(5, "{}", true), made(7, "{1: Hlc(5)}", false), last()], 0);
        check([made(5, "{}", true), made(7, "{1: Hlc(4)}", false), last()], 1);
    }

    #[test]
    fn where_a_disk_is_lost_only_what_a_majority_has_is_due() {
        let alone = || [Made { by_majority: false, ..made(5, "{}", true) }];
        check_with(&Options { loses: true, ..Options::of(1) }, alone(), 0);
        check_with(&Options { loses: false, ..Options::of(1) }, alone(), 1);
    }
}
