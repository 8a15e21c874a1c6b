//! The node that is asked, and finding it again when it went away in the midst of something.
//!
//! A node that restarts has another port and another token. Both are in its run record; and while
//! it does not run, any other node of the same config directory serves the same files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cli::args::Args;
use crate::cli::find::choose;
use crate::config::default_config_dir;
use crate::exit::{Code, Failure, tell};
use crate::run_record::{self, RunRecord};

/// The node that is asked.
pub(super) struct Asked {
    config_dir: PathBuf,
    /// A token that was given: it opens each node, instead of that of its run record.
    token: Option<String>,
    /// The id of the node that was meant; unknown of an address without a run record.
    meant: Option<String>,
    place: Mutex<Place>,
    /// The node that was said to be asked, or the one that was meant.
    said: Mutex<Option<String>>,
    /// Whether a node answered and knew the token: one that never did does not come again.
    answered: AtomicBool,
    /// The place of which it was said that the node went away.
    told: Mutex<Option<Place>>,
    /// Whether it was waited for in vain: nothing else waits for it again.
    given_up: AtomicBool,
}

/// Where a node is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: String,
    pub(super) token: Option<String>,
    node: Option<String>,
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The node is not there, or the connection broke.
    Gone(Failure),
    /// The node or this side says no.
    Refused(Failure),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Gone(failure) | Trouble::Refused(failure) => failure,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Asked {
    /// Finds the node that the arguments name, or the only one.
    pub(super) fn find(args: &Args) -> Result<Self, Failure> {
        let config_dir = match &args.config_dir {
            Some(dir) => dir.clone(),
            None => default_config_dir()?,
        };
        let running = run_record::running(&run_record::dirs(&config_dir));
        let place = match choose(args.node.as_deref(), running)? {
            Ok(record) => Place::of(&record),
            Err(base) => Place { base, token: None, node: None },
        };
        let mut asked = Self::new(config_dir, place);
        if let Some(path) = &args.token_file {
            let token = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Code::Key, format!("cannot read {}: {error}", path.display()))
            })?;
            let token = token.trim().to_owned();
            asked.place.get_mut().token = Some(token.clone());
            asked.token = Some(token);
        }
        Ok(asked)
    }

    /// A node with no record.
    #[cfg(test)]
    pub(super) fn at(base: &str, token: &str) -> Self {
        let (base, token) = (base.to_owned(), Some(token.to_owned()));
        Self::new(PathBuf::new(), Place { base, token, node: None })
    }

    fn new(config_dir: PathBuf, place: Place) -> Self {
        let [answered, given_up] = [const { AtomicBool::new(false) }; 2];
        let (meant, said) = (place.node.clone(), Mutex::new(place.node.clone()));
        Self {
            config_dir,
            token: None,
            meant,
            place: Mutex::new(place),
            said,
            answered,
            told: Mutex::new(None),
            given_up,
        }
    }

    pub(super) fn place(&self) -> Place {
        self.place.lock().clone()
    }

    /// A node answered and knew the token, whatever it said.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Asks until there is an answer, or for [`AGAIN_MAX`] if the node went away. `ask` may be
    /// asked again from its beginning, of another node too.
    pub(super) fn patiently<T>(
        &self,
        mut ask: impl FnMut(Place) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::default();
        loop {
            let place = self.place();
            let trouble = match ask(place.clone()) {
                Ok(done) => {
                    self.say_who(&place);
                    return Ok(done);
                }
                Err(trouble) => trouble,
            };
            let may_return = self.meant.is_some()
                && self.answered.load(Ordering::Relaxed)
                && !self.given_up.load(Ordering::Relaxed);
            match patience.after(&trouble, may_return, Instant::now()) {
                Next::GiveUp => return Err(self.give_up(trouble, &patience)),
                Next::Wait(_) if self.look_again(&place) => std::thread::sleep(AGAIN_FIRST),
                Next::Wait(wait) => {
                    self.say_gone(place);
                    std::thread::sleep(wait);
                }
            }
        }
    }

    fn give_up(&self, trouble: Trouble, patience: &Patience) -> Failure {
        let failure = Failure::from(trouble);
        if patience.until.is_none() {
            return failure;
        }
        self.given_up.store(true, Ordering::Relaxed);
        let node = self.meant.as_deref().unwrap_or_default();
        failure.hint(format!("start the node {node} again, then repeat the command"))
    }

    /// Says it once, however many transfers wait.
    fn say_gone(&self, place: Place) {
        let mut told = self.told.lock();
        if told.as_ref() != Some(&place) {
            let (base, most) = (&place.base, AGAIN_MAX.as_secs());
            tell(format_args!(
                "the node at {base} went away: waiting for it, for {most} s at most"
            ));
            *told = Some(place);
        }
    }

    fn say_who(&self, place: &Place) {
        let mut said = self.said.lock();
        if *said != place.node {
            tell(format_args!("going on with the node at {}", place.base));
            said.clone_from(&place.node);
        }
    }

    /// Looks for the node that was meant, else for another one with the same keys. Returns whether
    /// there is another place to ask than the one that was.
    fn look_again(&self, asked: &Place) -> bool {
        let mut place = self.place.lock();
        if *place != *asked {
            // Another thread found it.
            return true;
        }
        let everywhere = run_record::running(&run_record::dirs(&self.config_dir));
        let is_meant = |record: &RunRecord| Some(&record.node) == self.meant.as_ref();
        // Nodes of other clusters may have their records in the runtime directory too.
        let related = run_record::running(&[run_record::shared_dir(&self.config_dir)]);
        let found = everywhere.into_iter().filter(is_meant).chain(related);
        let found = found.filter(|record| self.place_of(record) != *asked);
        let Some(record) = run_record::first_open(found) else { return false };
        *place = self.place_of(&record);
        true
    }

    fn place_of(&self, record: &RunRecord) -> Place {
        let place = Place::of(record);
        Place { token: self.token.clone().or(place.token), ..place }
    }
}

impl Place {
    fn of(record: &RunRecord) -> Self {
        let token = std::fs::read_to_string(&record.token_file).ok();
        let token = token.map(|token| token.trim().to_owned());
        Self { base: record.api.clone(), token, node: Some(record.node.clone()) }
    }
}

/// How long one question is asked again.
#[derive(Debug, Default)]
struct Patience {
    /// Until when, once a node went away.
    until: Option<Instant>,
    asked: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait(Duration),
    GiveUp,
}

impl Patience {
    /// What to do after trouble with a node that may return.
    fn after(&mut self, trouble: &Trouble, may_return: bool, now: Instant) -> Next {
        let is_worth_it = match trouble {
            Trouble::Gone(_) => true,
            // The token was right before, so the node restarted. Or this is another one, without
            // the vault's key.
            Trouble::Refused(failure) if failure.code == Code::Key => true,
            // A node that has started a moment ago has not joined yet.
            Trouble::Refused(failure) => failure.code == Code::Retryable && self.until.is_some(),
        };
        let until = *self.until.get_or_insert(now + AGAIN_MAX);
        if !may_return || !is_worth_it || now >= until {
            self.until = self.until.filter(|_| may_return && is_worth_it);
            return Next::GiveUp;
        }
        self.asked += 1;
        Next::Wait(AGAIN_FIRST * 2_u32.pow(self.asked.min(AGAIN_DOUBLINGS) - 1))
    }
}

/// A node that is told to end takes 10 s at most, and then has to start.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// The first wait before a question is asked again.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
/// Up to 1.6 s.
const AGAIN_DOUBLINGS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Trouble {
        Trouble::Gone(Failure::new(Code::NoNode, "refused"))
    }

    fn refused(code: Code) -> Trouble {
        Trouble::Refused(Failure::new(code, "no"))
    }

    #[test]
    fn a_node_that_went_away_is_waited_for_and_not_for_ever() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let end = now + AGAIN_MAX;
        let mut waits = 0;
        while let Next::Wait(wait) = patience.after(&gone(), true, now) {
            assert!(wait <= Duration::from_millis(1600));
            now += wait;
            waits += 1;
        }
        assert!(now >= end && now < end + Duration::from_secs(2) && waits < 50);
        assert!(patience.until.is_some());
    }

    #[test]
    fn what_waiting_cannot_change_is_told_at_once() {
        let now = Instant::now();
        for (trouble, may_return) in [
            (gone(), false),
            (refused(Code::Key), false),
            (refused(Code::NotFound), true),
            (refused(Code::Retryable), true),
        ] {
            let mut patience = Patience::default();
            assert_eq!(patience.after(&trouble, may_return, now), Next::GiveUp);
            assert!(patience.until.is_none());
        }
    }

    #[test]
    fn a_node_that_came_back_gets_its_new_token_and_time_to_join() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        for code in [Code::Key, Code::Retryable] {
            assert!(matches!(patience.after(&refused(code), true, now), Next::Wait(_)));
        }
        assert_eq!(patience.after(&refused(Code::Unverified), true, now), Next::GiveUp);
    }
}
