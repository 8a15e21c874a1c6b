//! Operations that the layout may move under: begun again with the newer one.

use std::sync::Arc;

use dfs_core::layout::epoch::EpochState;

use super::call::Rpc;
use crate::error::Error;

/// How a step ended, when it did not succeed.
#[derive(Debug)]
pub(crate) enum StepError {
    /// The layout was too old; a newer one is here now.
    Stale,
    /// Too few replicas can do it.
    Failed(Error),
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StepError> for Error {
    /// For whoever does not repeat the step at once: the next time is soon enough.
    fn from(error: StepError) -> Self {
        match error {
            StepError::Stale => Self::Moving,
            StepError::Failed(error) => error,
        }
    }
}

impl Rpc {
    /// Repeats `attempt` while the layout moves under it.
    pub(crate) async fn with_layout<T, F>(
        self: &Arc<Self>,
        mut attempt: impl FnMut(Arc<EpochState>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, StepError>>,
    {
        for _ in 0..LAYOUT_TRIES {
            match attempt(self.replica.joined()?).await {
                Ok(value) => return Ok(value),
                Err(StepError::Failed(error)) => return Err(error),
                Err(StepError::Stale) => {}
            }
        }
        Err(Error::Moving)
    }
}

/// How often the layout may change under one operation; it changes every few seconds at most.
const LAYOUT_TRIES: usize = 8;
