//! `dfs drain` and `dfs remove`.

use crate::cli::http::Api;
use crate::cli::output::Output;
use crate::exit::{Failure, tell};

pub(super) fn drain(api: &Api, node: &str, out: &Output) -> Result<(), Failure> {
    let member = api.change_member(node, "drain")?;
    if out.json {
        return out.object(&member);
    }
    tell(format_args!("{} gives its data to the others and leaves then", member.id));
    tell("hint: 'dfs status' shows how far it is; stop it once 'dfs peers' calls it left");
    Ok(())
}

pub(super) fn remove(api: &Api, node: &str, out: &Output) -> Result<(), Failure> {
    let member = api.change_member(node, "remove")?;
    if out.json {
        return out.object(&member);
    }
    tell(format_args!("{} is removed for good; what it held is copied anew", member.id));
    Ok(())
}
