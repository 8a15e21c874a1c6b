//! `dfs token`.

use crate::cli::args::TokenVerb;
use crate::cli::http::Api;
use crate::cli::output::{Output, print};
use crate::exit::{Failure, tell};

pub(super) fn run(api: &Api, verb: &TokenVerb, out: &Output) -> Result<(), Failure> {
    match verb {
        TokenVerb::Create { name, read_only } => create(api, name, *read_only, out),
        TokenVerb::Ls => list(api, out),
        TokenVerb::Revoke { name } => revoke(api, name, out),
    }
}

fn create(api: &Api, name: &str, read_only: bool, out: &Output) -> Result<(), Failure> {
    let made = api.create_token(name, read_only)?;
    if out.json {
        return out.object(&made);
    }
    print(|shown| writeln!(shown, "{}", made.token.as_deref().unwrap_or_default()))?;
    let may = if read_only { "read everything" } else { "read and change everything" };
    tell(format_args!("whoever has it may {may} through this node; it is not shown again"));
    Ok(())
}

fn list(api: &Api, out: &Output) -> Result<(), Failure> {
    let tokens = api.tokens()?;
    if out.json {
        return tokens.iter().try_for_each(|token| out.object(token));
    }
    print(|shown| {
        tokens.iter().try_for_each(|token| {
            let may = if token.read_only { "read-only" } else { "read-write" };
            writeln!(shown, "{may:<10}  {}", token.name)
        })
    })
}

fn revoke(api: &Api, name: &str, out: &Output) -> Result<(), Failure> {
    let revoked = api.revoke_token(name)?;
    if out.json {
        return out.object(&revoked);
    }
    tell(format_args!("token {:?} opens nothing any more", revoked.name));
    Ok(())
}
