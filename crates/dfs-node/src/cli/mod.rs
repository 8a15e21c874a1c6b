//! The verbs of `dfs`.
//!
//! Results go to stdout, everything else to stderr. Files travel through the HTTP API of a running
//! node; keys are read from the config directory.

mod args;
mod fetch;
mod history;
mod http;
mod keys;
mod layout;
mod members;
mod output;
mod repair;
mod scrub;
mod source;
mod status;
mod store;
mod temp;
mod tree;

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;

pub use args::{Args, Verb};

use crate::api::{ListPage, PeerLine, StatView};
use crate::cli::http::Api;
use crate::cli::output::{Output, print, size};
use crate::exit::{Code, Failure, tell};
use dfs_core::name::FilePath;

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
        Verb::Cat(cat) => fetch::cat(&api()?, cat),
        Verb::Ls(ls) => list(&api()?, ls, &out),
        Verb::Stat(args) => stat(&api()?, args, &out),
        Verb::Rm(rm) => remove(&api()?, rm, &out),
        Verb::Log { path } => history::log(&api()?, path, &out),
        Verb::Restore(restore) => history::restore(&api()?, restore, &out),
        Verb::Conflicts(conflicts) => history::conflicts(&api()?, conflicts, &out),
        Verb::Status(args) => status::run(&api()?, args, &out),
        Verb::Peers => peers(&api()?, &out),
        Verb::Drain { member } => members::drain(&api()?, member, &out),
        Verb::Remove { member } => members::remove(&api()?, member, &out),
        Verb::Layout(verb) => layout::run(&api()?, verb, &out),
        Verb::Repair(verb) => repair::run(&api()?, verb, &out),
        Verb::Scrub(verb) => scrub::run(&api()?, *verb, &out),
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

fn create_dirs(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot create {}: {error}", dir.display()))
    })
}

/// Checks a remote path before anything is sent.
fn remote(path: &str) -> Result<FilePath, Failure> {
    let message = |error| format!("{path:?} is not a valid name: {error}");
    FilePath::parse(path).map_err(|error| Failure::new(Code::Usage, message(error)))
}

fn list(api: &Api, ls: &args::Ls, out: &Output) -> Result<(), Failure> {
    let shown = ls.prefix.trim_start_matches('/').trim_end_matches('/');
    let inside = if shown.is_empty() { String::new() } else { format!("{}/", remote(shown)?) };
    let mut count = 0;
    let mut each = |page: &ListPage| {
        count += page.entries.len();
        page.entries.iter().try_for_each(|entry| out.listed(entry, ls.long))
    };
    api.list(&inside, ls.recursive, &mut each)?;
    if count > 0 || shown.is_empty() {
        return Ok(());
    }
    // Not a directory with entries: a file, an empty directory, or nothing.
    let stat: StatView = api.stat(&remote(shown)?, None)?;
    match stat.kind.as_str() {
        "dir" => Ok(()),
        _ => out.listed(&stat.into(), ls.long),
    }
}

fn stat(api: &Api, args: &args::Stat, out: &Output) -> Result<(), Failure> {
    let stat: StatView = api.stat(&remote(&args.path)?, args.version.as_deref())?;
    if out.json {
        return out.object(&stat);
    }
    print(|text| {
        writeln!(text, "path       {}", stat.path)?;
        writeln!(text, "type       {}", stat.kind)?;
        writeln!(text, "version    {}", stat.version)?;
        writeln!(text, "bytes      {} ({})", stat.bytes, size(stat.bytes))?;
        writeln!(text, "modified   {}", stat.modified)?;
        writeln!(text, "chunks     {}", stat.chunks)?;
        writeln!(text, "copies     {} of {}", stat.copies, stat.wanted)?;
        writeln!(text, "conflicts  {}", stat.conflicts)
    })
}

fn remove(api: &Api, rm: &args::Rm, out: &Output) -> Result<(), Failure> {
    let mut failed = None;
    for path in &rm.paths {
        let path = remote(path)?;
        match api.remove(&path, rm.recursive) {
            Ok(removed) if out.json => out.object(&removed)?,
            Ok(_) => {}
            Err(failure) if rm.paths.len() == 1 => return Err(failure),
            Err(failure) => {
                failure.report();
                failed = Some(failure);
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(_) => Err(Failure::new(Code::Partly, "some paths were not removed")),
    }
}

fn peers(api: &Api, out: &Output) -> Result<(), Failure> {
    let peers: Vec<PeerLine> = api.peers()?;
    if out.json {
        return peers.iter().try_for_each(|peer| out.object(peer));
    }
    print(|shown| peers.iter().try_for_each(|peer| show_peer(peer, shown)))?;
    if let [alone] = &peers[..]
        && alone.is_self
    {
        // It may be alone because it is kept out.
        let health = api.status()?;
        if health["cluster"] == "" {
            tell(health["message"].as_str().unwrap_or_default());
        }
    }
    Ok(())
}

fn show_peer(peer: &PeerLine, shown: &mut dyn Write) -> io::Result<()> {
    let mark = if peer.is_self { "*" } else { " " };
    writeln!(
        shown,
        "{mark} {:<9} {:<22} {:<10} {:>10} of {:>10}  {}",
        peer.state,
        peer.addr,
        peer.zone,
        size(peer.bytes),
        size(peer.capacity),
        peer.id
    )
}
