//! Asking nodes and answering them: one call, operations over many replicas, what an answer
//! may say.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod drive;
pub(crate) mod fence;
mod layout;
pub(crate) mod paxos_round;

pub(crate) use self::call::{Ask, AskError, Rpc};
pub(crate) use self::layout::StepError;
