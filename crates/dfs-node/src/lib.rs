//! The two programs of dfs, `dfs-node` and `dfs`, as a library that they share.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | flags, environment and `config.toml` of the node, in that order |
//! | [`keyring`] | the config directory and its two keys |
//! | [`known_nodes`] | which nodes have run, so that an unmounted disk is noticed |
//! | [`run_record`] | how a client finds a running node |
//! | [`api`] | the local HTTP API |
//! | [`cli`] | the verbs of `dfs` |
//! | [`signals`], [`telemetry`] | shutting down, and logs |
//! | [`supervisor`] | what systemd is told |
//! | [`config_show`] | the configuration, and where each value comes from |
//! | [`quote`] | what a terminal is shown of text that others chose |
//! | [`limits`] | what the process asks of the operating system at its start |

pub mod api;
pub mod cli;
pub mod config;
mod config_file;
pub mod config_show;
pub mod exit;
pub mod join;
pub mod keyring;
pub mod known_nodes;
pub mod limits;
mod log_limit;
pub mod quote;
pub mod run_record;
pub mod signals;
pub mod supervisor;
pub mod telemetry;
pub mod unlock;
