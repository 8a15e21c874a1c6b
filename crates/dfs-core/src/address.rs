//! Address forms: `:3000`, `host:3000`, `1.2.3.4:3000`, `[::1]:3000`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host and a port as a user writes them; the host may be left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or IP address; `None` for `:PORT`.
    pub host: Option<String>,
    /// The port; 0 asks for a free one.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A bare number.
    #[error("write a port as ':PORT'")]
    BarePort,
    /// No colon before a port.
    #[error("the port is missing (write 'host:PORT' or ':PORT')")]
    NoPort,
    /// The port is not a number below 65,536.
    #[error("the port is not a number from 0 to 65535")]
    BadPort,
    /// The host has characters no host has, or an IPv6 address lacks its brackets.
    #[error("the host is not a name, an IPv4 address or an IPv6 address in brackets")]
    BadHost,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::BarePort);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::BadPort);
        }
        let port = port.parse().map_err(|_| AddressError::BadPort)?;
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn parse_host(host: &str) -> Result<Option<String>, AddressError> {
    if host.is_empty() {
        return Ok(None);
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let inner: Ipv6Addr = inner.parse().map_err(|_| AddressError::BadHost)?;
        return Ok(Some(inner.to_string()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > HOST_BYTES_MAX || !host.chars().all(allowed) {
        return Err(AddressError::BadHost);
    }
    Ok(Some(host.to_owned()))
}

impl Address {
    /// The host to dial: this machine when none was written.
    pub fn dial_host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    /// Whether dialling this address stays on this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host.as_deref() {
            None | Some("localhost") => true,
            Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, ":{}", self.port),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// The longest host name of the domain name system (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Bytes in an address, a zone name or a build string.
pub const TEXT_BYTES_MAX: usize = 300;
