//! Care for this node's own disk: bringing files and index together, reading everything back.

pub(crate) mod adopt;
pub(crate) mod scrub;
mod scrub_control;

pub(crate) use self::scrub::Scrubber;
pub use self::scrub_control::{ScrubState, ScrubView};
