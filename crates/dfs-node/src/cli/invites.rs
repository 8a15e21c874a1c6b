//! `dfs invite`.

use std::io::{self, Write};

use dfs_server::{InviteView, PeerRole};

use crate::cli::args::{Invite, InviteVerb};
use crate::cli::http::Api;
use crate::cli::output::{Output, print, size, word};
use crate::exit::{Failure, tell};

pub(super) fn run(api: &Api, invite: &Invite, out: &Output) -> Result<(), Failure> {
    match &invite.verb {
        None => make(api, invite, out),
        Some(InviteVerb::Ls) => list(api, out),
        Some(InviteVerb::Revoke { id }) => revoke(api, id, out),
    }
}

fn make(api: &Api, wish: &Invite, out: &Output) -> Result<(), Failure> {
    let made = api.invite(wish)?;
    if out.json {
        return out.object(&made);
    }
    print(|shown| writeln!(shown, "{}", made.line))?;
    let becomes = match (made.invite.role, made.invite.cap) {
        (PeerRole::Gateway, _) => {
            "gets the vault's key and may read and change everything".to_owned()
        }
        (_, Some(cap)) => {
            format!("stores for the cluster, {} at most, and reads nothing", size(cap))
        }
        (_, None) => "stores for the cluster and reads nothing".to_owned(),
    };
    tell(format_args!("one machine that starts with this line {becomes}"));
    tell(format_args!("there: dfs-node --join LINE, until {}", made.invite.expires));
    tell("whoever has the line can use it: send it as you would a key, or put it into a file");
    Ok(())
}

fn list(api: &Api, out: &Output) -> Result<(), Failure> {
    let invites = api.invites()?;
    if out.json {
        return invites.iter().try_for_each(|invite| out.object(invite));
    }
    print(|shown| invites.iter().try_for_each(|invite| show(invite, shown)))
}

fn show(invite: &InviteView, shown: &mut dyn Write) -> io::Result<()> {
    writeln!(
        shown,
        "{:<7} {:<8} {:>10}  until {}  {}  {}",
        word(&invite.state),
        word(&invite.role),
        invite.cap.map(size).unwrap_or_default(),
        invite.expires,
        invite.id.get(..8).unwrap_or(&invite.id),
        invite.name
    )
}

fn revoke(api: &Api, id: &str, out: &Output) -> Result<(), Failure> {
    let invite = api.revoke_invite(id)?;
    if out.json {
        return out.object(&invite);
    }
    tell(format_args!("invite {} admits nobody any more", &invite.id));
    tell("hint: whom it has admitted 'dfs remove' takes out");
    Ok(())
}
