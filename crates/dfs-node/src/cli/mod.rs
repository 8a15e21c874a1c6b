//! The verbs of `dfs`.
//!
//! Results go to stdout, everything else to stderr. Files travel through the HTTP API of a running
//! node; keys are read from the config directory.

mod about_cluster;
#[allow(unnameable_types, reason = "clap fills them; only their verbs are handed on")]
mod args;
mod asked;
mod browse;
mod command;
mod doctor;
mod exclude;
mod fetch;
mod fetch_tree;
mod find;
mod history;
mod http;
mod invites;
mod keys;
mod layout;
mod leftovers;
mod members;
mod moving;
mod output;
mod own;
mod past;
mod paths;
mod progress;
mod repair;
mod scrub;
mod source;
mod sparse;
mod stamp;
mod status;
mod store;
mod sync;
mod sync_down;
mod sync_up;
mod temp;
mod tokens;
mod transport;
mod tree;
mod usage;
mod walk;
mod watch;

use clap::CommandFactory;

pub use args::{Args, Verb};

use crate::cli::http::Api;
use crate::cli::output::{Output, print};
use crate::cli::paths::create_dirs;
use crate::exit::{Code, Failure};

/// Runs one verb.
///
/// # Errors
/// [`Failure`] with the exit code.
pub fn run(args: Args) -> Result<(), Failure> {
    temp::remove_on_signal().map_err(|error| {
        Failure::new(Code::Failed, format!("cannot watch for signals: {error}"))
    })?;
    let out = Output::new(&args);
    let api = || Api::find(&args);
    match &args.verb {
        Verb::Put(put) => store::put(&api()?, put, &out),
        Verb::Get(get) => fetch::get(&api()?, get, &out),
        Verb::Sync(args) => sync::run(&api()?, args, &out),
        Verb::Cat(cat) => fetch::cat(&api()?, cat),
        Verb::Ls(ls) if ls.versions => past::list_versions(&api()?, ls, &out),
        Verb::Ls(ls) => browse::list(&api()?, ls, &out),
        Verb::Stat(args) => browse::stat(&api()?, args, &out),
        Verb::Rm(rm) => browse::remove(&api()?, rm, &out),
        Verb::Cp(cp) => moving::copy(&api()?, cp, &out),
        Verb::Mv(mv) => moving::rename(&api()?, mv, &out),
        Verb::Mkdir(mkdir) => moving::make_dirs(&api()?, mkdir, &out),
        Verb::Rmdir(rmdir) => moving::remove_dirs(&api()?, rmdir, &out),
        Verb::Du(du) => usage::run(&api()?, du, &out),
        Verb::Watch(args) => watch::run(&api()?, args, &out),
        Verb::Ln(ln) => moving::make_link(&api()?, ln, &out),
        Verb::Log { path } => history::log(&api()?, path, &out),
        Verb::Restore(restore) => match &restore.at {
            Some(at) => past::restore_tree(&api()?, restore, at, &out),
            None => history::restore(&api()?, restore, &out),
        },
        Verb::Purge(purge) => past::purge(&api()?, purge, &out),
        Verb::Conflicts(conflicts) => history::conflicts(&api()?, conflicts, &out),
        Verb::Status(args) => status::run(&api()?, args, &out),
        Verb::Doctor(doctor) => doctor::run(&args, doctor, &out),
        Verb::Peers { proof: true } => members::proofs(&api()?, &out),
        Verb::Peers { proof: false } => members::peers(&api()?, &out),
        Verb::Invite(invite) => invites::run(&api()?, invite, &out),
        Verb::Admit { member, cap } => members::admit(&api()?, member, *cap, &out),
        Verb::Drain { member } => members::drain(&api()?, member, &out),
        Verb::Remove { member, force } => members::remove(&api()?, member, *force, &out),
        Verb::Layout(verb) => layout::run(&api()?, verb, &out),
        Verb::Repair(verb) => repair::run(&api()?, verb, &out),
        Verb::Scrub(verb) => scrub::run(&api()?, *verb, &out),
        Verb::Token(verb) => tokens::run(&api()?, verb, &out),
        Verb::RunBelow { parent, group, command } => command::run_below(*parent, *group, command),
        Verb::Key(key) => keys::run(&args, key, &out),
        Verb::Completion { shell } => {
            // Into memory first: the generator panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "dfs", &mut script);
            print(|text| text.write_all(&script))
        }
        Verb::Man { dir } => {
            create_dirs(dir)?;
            clap_mangen::generate_to(Args::command(), dir).map_err(|error| {
                Failure::new(Code::Failed, format!("cannot write to {}: {error}", dir.display()))
            })
        }
    }
}
