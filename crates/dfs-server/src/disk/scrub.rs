//! Reading this node's disk back: finds rot, missing files and wrong sums before anyone needs them.
//!
//! When, how far and how fast is decided in [`dfs_core::replica::scrub`]; here it is carried out
//! and kept. What is bad is set aside by the store, and wanted by the repair at once.

use std::sync::Arc;
use std::time::Duration;

use dfs_core::codec::Canonical;
use dfs_core::id::{BlobId, Partition};
use dfs_core::meter::Meter;
use dfs_core::replica::scrub::{Pace, Scrub, ScrubStep};
use dfs_store::disk::store::{Held, SumChecked, Verified};
use dfs_store::{ReadError, Store, WriteError};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::error::Error;
use crate::replica::Replica;

/// The scrub of one node.
pub(crate) struct Scrubber {
    pub(super) replica: Arc<Replica>,
    state: Mutex<State>,
    /// One writes the state at a time, so that the newest is the last on the disk.
    saving: tokio::sync::Mutex<()>,
    pub(super) wake: Notify,
    /// What `Duration`s of the clock count from.
    pub(super) origin: Instant,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) scrub: Scrub,
    /// When it was last written to the disk.
    saved: Option<Instant>,
    pub(super) meter: Meter,
}

impl Scrubber {
    pub(crate) fn new(replica: Arc<Replica>) -> Self {
        let scrub = Scrub::of(&replica.id, replica.unix_ms());
        Self {
            origin: replica.env.mono(),
            replica,
            state: Mutex::new(State { scrub, saved: None, meter: Meter::default() }),
            saving: tokio::sync::Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Counts a blob that was looked at.
    fn note(&self, number: u64, held: Held, result: &Result<Verified, ReadError>, now: Instant) {
        let mut state = self.state();
        if matches!(result, Ok(Verified::Good)) {
            state.meter.add(now - self.origin, u64::from(held.len));
        }
        let Some(pass) = state.scrub.under_way(number) else { return };
        pass.after = Some(held.id);
        match result {
            Ok(Verified::Good) => {
                pass.found.good += 1;
                pass.found.bytes = pass.found.bytes.saturating_add(u64::from(held.len));
            }
            Ok(Verified::Bad) => pass.found.bad += 1,
            Ok(Verified::NotHeld) => {}
            Err(_) => pass.found.unread += 1,
        }
    }
}

/// Of so many bytes, evenly spread, those that lie after a place.
fn left(bytes: u64, place: u64) -> u64 {
    u64::try_from((u128::from(bytes) * u128::from(u64::MAX - place)) >> 64).unwrap_or(bytes)
}

impl Scrubber {
    /// Takes up the scrub where an earlier start left it.
    pub(crate) async fn load(&self) -> Result<(), ReadError> {
        let Some(kept) = self.replica.store.state(SCRUB).await? else { return Ok(()) };
        match Scrub::from_canonical(kept) {
            Ok(scrub) => {
                let mut state = self.state();
                (state.scrub, state.saved) = (scrub, Some(self.replica.env.mono()));
            }
            Err(error) => warn!(%error, "what was kept of the scrub is not used"),
        }
        Ok(())
    }

    /// Changes the scrub's state. Durable on return, and in force only then.
    pub(super) async fn change(&self, change: impl Fn(&mut Scrub)) -> Result<(), WriteError> {
        let _alone = self.saving.lock().await;
        let mut next = self.state().scrub.clone();
        change(&mut next);
        self.replica.store.put_state(SCRUB, next.to_canonical()).await?;
        let mut state = self.state();
        change(&mut state.scrub);
        state.saved = Some(self.replica.env.mono());
        Ok(())
    }

    /// Reads the disk back, again and again, until shutdown.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut pace = Pace::default();
        while !self.replica.shutdown.is_cancelled() {
            let wait = match self.step(&mut pace).await {
                Ok(wait) => wait,
                Err(error) => {
                    warn!(%error, "the disk could not be read back; trying again later");
                    RETRY_AFTER
                }
            };
            self.wait_or_told(wait).await;
        }
    }

    async fn wait_or_told(&self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = self.replica.shutdown.cancelled() => {}
            () = self.wake.notified() => {}
            () = self.replica.env.sleep(wait) => {}
        }
    }

    /// Goes on until the pass ends or is held up; says how long to wait then.
    async fn step(&self, pace: &mut Pace) -> Result<Duration, Error> {
        if self.replica.store.has_failed() {
            return Ok(LOOK_EVERY);
        }
        let is_kept = self.state().saved.is_some();
        if !is_kept {
            self.change(|_| ()).await?;
        }
        let now = self.replica.unix_ms();
        let step = self.state().scrub.step(now);
        match step {
            ScrubStep::Wait(wait) => return Ok(wait.min(LOOK_EVERY)),
            ScrubStep::Begin => {
                // Unless someone began one meanwhile.
                let begin = |scrub: &mut Scrub| match scrub.step(now) {
                    ScrubStep::Begin => scrub.begin(now, false),
                    ScrubStep::GoOn | ScrubStep::Wait(_) => {}
                };
                self.change(begin).await?;
            }
            ScrubStep::GoOn => {}
        }
        let number = self.state().scrub.passes;
        self.check_sums(number, pace).await?;
        while let Some(stretch) = self.next_stretch(number).await? {
            for held in stretch {
                if !self.goes_on(number) {
                    return Ok(Duration::ZERO);
                }
                self.verify(number, held, pace).await?;
            }
        }
        Ok(Duration::ZERO)
    }

    fn goes_on(&self, number: u64) -> bool {
        !self.replica.shutdown.is_cancelled()
            && !self.replica.store.has_failed()
            && self.state().scrub.goes_on(number)
    }

    /// The blobs to read next; `None` when the pass is over, or must not go on.
    async fn next_stretch(&self, number: u64) -> Result<Option<Vec<Held>>, Error> {
        if !self.goes_on(number) {
            return Ok(None);
        }
        let after = self.state().scrub.pass.as_ref().and_then(|pass| pass.after);
        let stretch = self.replica.store.held_after(after, BLOBS_IN_STRETCH).await?;
        if stretch.is_empty() {
            self.end_pass(number).await?;
            return Ok(None);
        }
        Ok(Some(stretch))
    }

    async fn end_pass(&self, number: u64) -> Result<(), Error> {
        let now = self.replica.unix_ms();
        self.change(|scrub| scrub.end(number, now)).await?;
        let last = self.state().scrub.last;
        if let Some(found) = last.map(|last| last.found) {
            let dfs_core::replica::scrub::Found { good, bytes, bad, unread, sums, rows } = found;
            info!(good, bytes, bad, unread, sums, rows, "the disk was read back");
        }
        Ok(())
    }

    async fn verify(&self, number: u64, held: Held, pace: &mut Pace) -> Result<(), Error> {
        self.give_way().await;
        let result = self.verify_patiently(held.id).await;
        let now = self.replica.env.mono();
        self.note(number, held, &result, now);
        match &result {
            Ok(Verified::Good) => {
                metrics::counter!("dfs_scrub_bytes_total").increment(u64::from(held.len));
            }
            Ok(Verified::Bad) => {
                metrics::counter!("dfs_scrub_corrupt_chunks_total").increment(1);
                self.replica.missing.want_now(held.id);
            }
            Ok(Verified::NotHeld) => return Ok(()),
            Err(error) => error!(blob = ?held.id, %error, "a blob could not be read back"),
        }
        let found_bad = matches!(result, Ok(Verified::Bad));
        let saved = self.state().saved;
        if found_bad || saved.is_none_or(|saved| now - saved >= SAVE_EVERY) {
            self.change(|_| ()).await?;
        }
        self.keep_pace(number, u64::from(held.len), held.place, pace).await;
        Ok(())
    }

    /// Reads a blob back, again after a while when the disk could not answer: it may only have been
    /// short of something.
    async fn verify_patiently(&self, id: BlobId) -> Result<Verified, ReadError> {
        for _ in 1..READ_TRIES {
            match self.replica.store.verify_blob(id).await {
                Err(error) if !self.replica.shutdown.is_cancelled() => {
                    debug!(blob = ?id, %error, "a blob could not be read back yet");
                    self.replica.env.sleep(READ_AGAIN_AFTER).await;
                }
                done => return done,
            }
        }
        self.replica.store.verify_blob(id).await
    }

    /// Checks the sums of the index, once in a pass.
    async fn check_sums(&self, number: u64, pace: &mut Pace) -> Result<(), Error> {
        let is_done = self.state().scrub.pass.as_ref().is_none_or(|pass| pass.sums_done);
        if is_done {
            return Ok(());
        }
        let mut all = SumChecked::default();
        for partition in (0..=Partition::MAX).take(Store::sum_partitions()) {
            if !self.goes_on(number) {
                return Ok(());
            }
            self.give_way().await;
            match self.replica.store.check_sums(partition).await {
                Ok(done) => {
                    all.mended += done.mended;
                    all.damaged += done.damaged;
                    self.keep_pace(number, done.bytes, 0, pace).await;
                }
                // The others are no worse for it.
                Err(error) => {
                    error!(partition, %error, "rows of the index could not be read back");
                    all.damaged += 1;
                }
            }
        }
        metrics::counter!("dfs_scrub_sums_mended_total").increment(all.mended);
        let done = |scrub: &mut Scrub| {
            if let Some(pass) = scrub.under_way(number) {
                pass.sums_done = true;
                pass.found.sums += all.mended;
                pass.found.rows += all.damaged;
            }
        };
        Ok(self.change(done).await?)
    }

    /// Waits while users wait for blobs, a bounded time: users come first, and rot is found all the
    /// same on a node that is never at rest.
    async fn give_way(&self) {
        let until = self.replica.env.mono() + GIVE_WAY_MAX;
        while self.replica.load.is_busy() && self.replica.env.mono() < until {
            self.replica.env.sleep(GIVE_WAY_STEP).await;
        }
    }

    async fn keep_pace(&self, number: u64, bytes: u64, place: u64, pace: &mut Pace) {
        let (left, now) = (left(self.replica.store.used(), place), self.replica.unix_ms());
        let rate = self.state().scrub.under_way(number).map(|pass| pass.rate(left, now));
        if let Some(rate) = rate {
            let wait = pace.take(self.replica.env.mono() - self.origin, bytes, rate);
            self.wait_or_told(wait).await;
        }
    }
}

/// What the scrub's state is kept under.
const SCRUB: &str = "scrub";
/// Blobs listed at once: 3 MiB of memory. A million blobs, a TiB, are sixteen looks through the
/// index.
const BLOBS_IN_STRETCH: usize = 65_536;
/// How far the position on the disk may be behind: as much is read again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// How often the clock is looked at: it may be set while this waits.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// The wait after the index could not be read or written.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How often a blob is read that the disk does not give.
const READ_TRIES: u32 = 3;
/// The wait before it is read again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long one blob waits for those of users. On a node that is never at rest, 4 MiB/s remain.
const GIVE_WAY_MAX: Duration = Duration::from_millis(250);
/// How often it is looked whether users wait.
const GIVE_WAY_STEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_falls_as_the_place_rises() {
        for (place, rest) in [(0, 999_999), (u64::MAX / 4, 750_000), (u64::MAX, 0)] {
            assert_eq!(left(1_000_000, place), rest);
        }
        assert_eq!(left(u64::MAX, 0), u64::MAX - 1);
    }
}
