//! `dfs layout force` and `dfs layout recover`: going on by hand after a disaster.

use std::io::{self, IsTerminal};

use dfs_server::RecoveryOutcome;

use crate::cli::args::{LayoutVerb, Lost};
use crate::cli::http::Api;
use crate::cli::output::Output;
use crate::exit::{Code, Failure, tell};

pub(super) fn run(api: &Api, verb: &LayoutVerb, out: &Output) -> Result<(), Failure> {
    let (how, lost, warning, words) = match verb {
        LayoutVerb::Force(lost) => ("force", lost, FORCE, FORCE_WORDS),
        LayoutVerb::Recover(lost) => ("recover", lost, RECOVER, RECOVER_WORDS),
    };
    confirm(lost, warning, words)?;
    let outcome = api.go_on_without(&lost.nodes, how)?;
    if out.json {
        return out.object(&outcome);
    }
    report(&outcome);
    Ok(())
}

fn report(outcome: &RecoveryOutcome) {
    match outcome {
        RecoveryOutcome::Waits { nodes } => {
            tell("this node was told; nothing has changed yet");
            let nodes = nodes.join(", ");
            tell(format_args!("hint: say the same to every node that is left, {nodes} first"));
        }
        RecoveryOutcome::Decided { epoch, partitions } => {
            let what = "partitions go on with what is left";
            tell(format_args!("decided in epoch {epoch}: {partitions} {what}"));
            tell(
                "hint: 'dfs status' says how copying goes, 'dfs repair lost' which files are gone",
            );
        }
    }
}

/// Goes on only when the words were given, or are typed now.
fn confirm(lost: &Lost, warning: &str, words: &str) -> Result<(), Failure> {
    let needed = || {
        let message = format!("{warning}\nThis needs the words '{words}'");
        Failure::new(Code::Usage, message).hint(format!("--confirm '{words}'"))
    };
    match &lost.confirm {
        Some(given) if given.trim() == words => return Ok(()),
        None if io::stdin().is_terminal() && io::stderr().is_terminal() => {}
        _ => return Err(needed()),
    }
    tell(warning);
    tell(format_args!("Type '{words}' to go on:"));
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(|error| Failure::new(Code::Failed, error))?;
    if typed.trim() == words { Ok(()) } else { Err(needed()) }
}

const FORCE: &str =
    "Writes that only these nodes held are lost for good, also when they come back.";
const FORCE_WORDS: &str = "lose what only they held";
const RECOVER: &str = "Writes that only these nodes held are lost for good. If they are not gone \
     but cut off, they go on without you, and what is written there is lost when they come back.";
const RECOVER_WORDS: &str = "they are gone for ever";
