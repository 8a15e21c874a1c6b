//! Which hosts a request may name. A page in a browser can send requests here, but not without its
//! `Origin`. After DNS rebinding it has none, but then `Host` is the name of its own site.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::errors::Problem;
use super::shared::Shared;
use crate::exit::Code;

/// Refuses what a web page could send. Whether the process lives, and whether it serves, anyone
/// may ask under any name: there is nothing in the answer.
pub(super) async fn refuse_browsers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let why = "requests from web pages are refused: this one has an Origin";
        return Problem::new(StatusCode::FORBIDDEN, Code::Key, why).into_response();
    }
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    if !is_probe && let Some(problem) = wrong_host(&request, &shared) {
        return problem.into_response();
    }
    next.run(request).await
}

fn wrong_host(request: &Request, shared: &Shared) -> Option<Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let Some(host) = host else {
        // No browser sends such a request.
        let may_lack = request.version() < Version::HTTP_11;
        return (!may_lack).then(|| Problem::usage("the request has no Host"));
    };
    if another.is_some() {
        return Some(Problem::usage("the request has more than one Host"));
    }
    let text = String::from_utf8_lossy(host.as_bytes());
    if is_own_host(&text, shared.addr, &shared.hosts) {
        return None;
    }
    let shown: String = text.chars().take(HOST_SHOWN).map(shown).collect();
    let name = name(&shown);
    let why = format!("this node does not answer to the host {shown:?}");
    let hint = match name {
        "" => "ask by an IP address, or give the node --api-host NAME".to_owned(),
        name => format!(
            "ask by an IP address, or start the node with '--api-host {name}' if that is its name"
        ),
    };
    Some(Problem::new(StatusCode::FORBIDDEN, Code::Key, why).hint(&hint))
}

fn shown(c: char) -> char {
    if c.is_ascii_graphic() && c != '\'' { c } else { '?' }
}

/// The host without a port, brackets and the dot of the root.
fn name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether a host is an address of this one, or a name that its owner gave. Names have no case.
fn is_own_host(host: &str, addr: SocketAddr, named: &[String]) -> bool {
    let name = name(host);
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == addr.ip() || !addr.ip().is_loopback(),
        Err(_) => {
            name.eq_ignore_ascii_case("localhost")
                || named.iter().any(|known| self::name(known).eq_ignore_ascii_case(name))
        }
    }
}

/// As much of a host as is shown: the longest name there can be.
const HOST_SHOWN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_host_and_names_that_were_given_are_accepted() {
        let addr: SocketAddr = "127.0.0.1:4321".parse().unwrap();
        let named = ["nas.lan".to_owned(), "Other.example.".to_owned()];
        for host in [
            "127.0.0.1:4321",
            "localhost:4321",
            "LocalHost",
            "localhost.",
            "[::1]:4321",
            "127.0.0.1",
            "nas.lan",
            "NAS.lan:80",
            "other.EXAMPLE",
        ] {
            assert!(is_own_host(host, addr, &named), "{host}");
        }
        for host in ["evil.example:4321", "10.0.0.1:4321", "", "nas.lan.evil", "lan", "xlocalhost"]
        {
            assert!(!is_own_host(host, addr, &named), "{host}");
        }
        assert!(!is_own_host("nas.lan", addr, &[]));
    }
}
