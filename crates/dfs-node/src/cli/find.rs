//! Which running node to ask.

use std::net::IpAddr;

use dfs_core::address::Address;

use crate::exit::{Code, Failure, tell};
use crate::run_record::{self, RunRecord};

/// The record of the node to ask, or the URL of one that has none.
pub(super) fn choose(
    wanted: Option<&str>,
    running: Vec<RunRecord>,
) -> Result<Result<RunRecord, String>, Failure> {
    match wanted {
        Some(url) if url.starts_with("http://") => {
            let url = url.trim_end_matches('/');
            let known = matching(running, |record| is_api_of(url, record));
            // The record's own URL is asked: "localhost" may also be another program's address.
            Ok(known.into_iter().next().ok_or_else(|| url.to_owned()))
        }
        Some(text) => {
            let address: Address = text
                .parse()
                .map_err(|error| Failure::new(Code::Usage, format!("--node {text:?}: {error}")))?;
            let known = matching(running, |record| record.listen.port() == address.port);
            let missing = || {
                Failure::new(Code::NoNode, format!("no running node of yours listens on {text}"))
                    .hint("'dfs-node --listen' starts one")
            };
            known.into_iter().next().map(Ok).ok_or_else(missing)
        }
        None => match &matching(running, |_| true)[..] {
            [] => Err(Failure::new(Code::NoNode, "no node of yours is running on this machine")
                .hint("start one with 'dfs-node', or name one with --node")),
            [only] => Ok(Ok(only.clone())),
            [first, ..] => {
                tell(format_args!("using the node on {}", first.listen));
                Ok(Ok(first.clone()))
            }
        },
    }
}

fn matching(running: Vec<RunRecord>, is_wanted: impl Fn(&RunRecord) -> bool) -> Vec<RunRecord> {
    run_record::answering(running.into_iter().filter(is_wanted).collect())
}

/// Whether a URL names the API of a record: the same host and port, where this machine has several
/// names and an API on every interface answers to all of them.
fn is_api_of(url: &str, record: &RunRecord) -> bool {
    let (Some(wanted), Some(own)) = (address(url), address(&record.api)) else { return false };
    let every_interface = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let own_is_local = own.is_loopback() || own.host.as_deref().is_some_and(every_interface);
    let same_host = wanted.host == own.host || (wanted.is_loopback() && own_is_local);
    same_host && wanted.port == own.port
}

/// The host and the port of a URL that has both.
fn address(url: &str) -> Option<Address> {
    run_record::authority(url)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(api: &str) -> RunRecord {
        RunRecord {
            node: "node".to_owned(),
            listen: "127.0.0.1:3000".parse().unwrap(),
            api: api.to_owned(),
            token_file: "/data/api-token".into(),
            locked: false,
            pid: std::process::id(),
            boot: None,
            started: None,
        }
    }

    #[test]
    fn every_name_of_this_machine_finds_the_token() {
        for (url, api, expected) in [
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000", true),
            ("http://localhost:4000", "http://127.0.0.1:4000", true),
            ("http://localhost:4000/", "http://127.0.0.1:4000", true),
            ("http://me@localhost:4000", "http://127.0.0.1:4000", false),
            ("http://", "http://127.0.0.1:4000", false),
            ("http://[::1]:4000", "http://127.0.0.1:4000", true),
            ("http://localhost:4000", "http://0.0.0.0:4000", true),
            ("http://localhost:4000", "http://[::]:4000", true),
            ("http://10.0.0.1:4000", "http://10.0.0.1:4000", true),
            ("http://localhost:4001", "http://127.0.0.1:4000", false),
            ("http://10.0.0.1:4000", "http://127.0.0.1:4000", false),
            ("http://localhost:4000", "http://10.0.0.1:4000", false),
            ("http://localhost", "http://127.0.0.1:4000", false),
        ] {
            assert_eq!(is_api_of(url, &record(api)), expected, "{url} {api}");
        }
    }

    #[test]
    fn the_record_says_where_to_connect_and_a_stranger_gets_no_token() {
        let known = || vec![record("http://127.0.0.1:4000")];
        let found = choose(Some("http://localhost:4000/"), known()).unwrap();
        assert_eq!(found, Ok(record("http://127.0.0.1:4000")));
        let stranger = choose(Some("http://localhost:4001"), known()).unwrap();
        assert_eq!(stranger, Err("http://localhost:4001".to_owned()));
    }
}
