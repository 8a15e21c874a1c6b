//! Changes of many names, some at a time, each carried to its end.
//!
//! A write that is given up midway may still arrive, after its name's lock was let go: whoever
//! writes the name next would not have seen it. So when one fails, the others are waited for.

use dfs_env::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error::Error;

/// Changes under way.
#[derive(Default)]
pub(super) struct Together<'a> {
    running: FuturesUnordered<BoxFuture<'a, Result<bool, Error>>>,
    /// Names that were changed.
    pub(super) done: u64,
}

impl<'a> Together<'a> {
    /// Begins another change, which says whether there was anything to change; waits for one when
    /// there are many.
    ///
    /// # Errors
    /// That of any that ended.
    pub(super) async fn add(
        &mut self,
        one: impl Future<Output = Result<bool, Error>> + Send + 'a,
    ) -> Result<(), Error> {
        self.running.push(Box::pin(one));
        if self.running.len() >= AT_ONCE
            && let Some(ended) = self.running.next().await
        {
            self.done += u64::from(ended?);
        }
        Ok(())
    }

    /// Waits for all to end.
    ///
    /// # Errors
    /// The first.
    pub(super) async fn finish(&mut self) -> Result<(), Error> {
        let mut all = Ok(());
        while let Some(ended) = self.running.next().await {
            match ended {
                Ok(done) => self.done += u64::from(done),
                Err(error) => all = all.and(Err(error)),
            }
        }
        all
    }
}

/// Counts a name as changed; one that is gone, by whoever else, is none.
pub(super) fn unless_gone(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Enough to share commits, few enough to leave room for others.
const AT_ONCE: usize = 32;
