//! The node's configuration: flag, then environment, then `config.toml`, then default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use dfs_core::address::Address;
use dfs_server::{Cadence, Grace, OUT_AFTER};
use etcetera::{BaseStrategy, choose_base_strategy};
use serde::Deserialize;

use crate::config_file::{ConfigFile, FileConfig};
use crate::unlock::Unlock;

/// What the program does instead of running a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Brings the data directory of an earlier version to the current format; stop its node first
    Upgrade,
    /// Shows or checks what a node would run with
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do about the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Prints it as a config.toml
    Show {
        /// Also where each value comes from: flag, environment, file or default
        #[arg(long)]
        origin: bool,
    },
    /// Says whether config.toml can be read, and if not, in which line it is wrong
    Check,
}

/// Runs one dfs node.
///
/// Nodes on one machine share the keys of the config directory and need no set-up; a node without
/// --bootstrap founds a cluster, one with --bootstrap joins; nodes that are in no cluster and name
/// each other found one together.
#[derive(Debug, Parser)]
#[command(name = "dfs-node", version)]
pub struct Args {
    /// What to do instead of running a node
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Peer port: `:PORT` is every interface, `:0` picks a free one
    #[arg(long, env = "DFS_LISTEN", value_name = "ADDR", global = true)]
    pub listen: Option<Address>,
    /// Peers to begin with: `:PORT` is this host; repeat it or separate with commas
    #[arg(long, env = "DFS_BOOTSTRAP", value_name = "ADDR", value_delimiter = ',')]
    pub bootstrap: Vec<Address>,
    /// Join by an invite: the line that `dfs invite` made, a file that has it, or `-` for stdin
    #[arg(long, env = "DFS_JOIN", value_name = "INVITE", hide_env_values = true)]
    pub join: Option<String>,
    /// Found a cluster at once if this node is in none, even with --bootstrap
    #[arg(long, env = "DFS_INIT", value_name = "BOOL", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    pub init: Option<bool>,
    /// Begin as a new node though one of this address or data directory is known; once, where its
    /// disk is gone for good
    #[arg(long, env = "DFS_NEW_NODE", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    pub new_node: Option<bool>,
    /// Local HTTP API
    #[arg(long, env = "DFS_API", value_name = "ADDR")]
    pub api: Option<Address>,
    /// A name by which the API may be asked, beside addresses; repeat it or separate with commas
    #[arg(long, env = "DFS_API_HOST", value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = parse_host)]
    pub api_host: Vec<String>,
    /// Everything this node owns; created closed to others, and locked
    #[arg(long, env = "DFS_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// config.toml, cluster.key and vault.key
    #[arg(long, env = "DFS_CONFIG_DIR", value_name = "DIR", global = true)]
    pub config_dir: Option<PathBuf>,
    /// Failure domain
    #[arg(long, env = "DFS_ZONE", value_name = "NAME")]
    pub zone: Option<String>,
    /// Space to offer, as `500GB` or `2TiB` [default: 80 % of the free space]
    #[arg(long, env = "DFS_CAPACITY", value_name = "SIZE", value_parser = parse_size)]
    pub capacity: Option<u64>,
    /// How long a node is away before its share is copied to others, as `30m` [default: 1h]
    #[arg(long, env = "DFS_OUT_AFTER", value_name = "TIME", value_parser = parse_time)]
    pub out_after: Option<Duration>,
    /// Never load the vault key: store for others only
    #[arg(long, env = "DFS_STORAGE_ONLY", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    pub storage_only: Option<bool>,
    /// The first line is the passphrase of the vault key, if it has one; may be a pipe [default:
    /// systemd's credential dfs-passphrase, else the terminal]
    #[arg(long, env = "DFS_PASSPHRASE_FILE", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// What to log, as `info` or `dfs_p2p=debug,info`
    #[arg(long, env = "DFS_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log
    #[arg(long, env = "DFS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// For tests: free the space of deleted files after this time, as `90s` or `2h`; the same on
    /// all nodes. Uploads must take less than three quarters of it
    #[arg(long, env = "DFS_GRACE", value_name = "TIME", value_parser = parse_time, hide = true)]
    pub grace: Option<Duration>,
    /// For tests: challenge members that only store about every so long, as `2s`; the same on all
    /// nodes
    #[arg(long, env = "DFS_PROVE_EVERY", value_name = "TIME", value_parser = parse_time)]
    #[arg(hide = true)]
    pub prove_every: Option<Duration>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The configuration in force.
#[derive(Debug)]
pub struct NodeConfig {
    /// Peer port.
    pub listen: SocketAddr,
    /// Peers to begin with.
    pub bootstrap: Vec<Address>,
    /// The invite to join by, or where it is.
    pub join: Option<String>,
    /// Found a cluster at once if in none.
    pub init: bool,
    /// Begin as a new node though another is known here.
    pub new_node: bool,
    /// Local HTTP API.
    pub api: SocketAddr,
    /// Names by which the API may be asked.
    pub api_hosts: Vec<String>,
    /// Everything this node owns.
    pub data_dir: PathBuf,
    /// Keys and `config.toml`.
    pub config_dir: PathBuf,
    /// Failure domain.
    pub zone: String,
    /// Bytes to offer.
    pub capacity: Option<u64>,
    /// How long a node is away before its share is copied to others.
    pub out_after: Duration,
    /// Never load the vault key.
    pub storage_only: bool,
    /// Opens the vault key.
    pub unlock: Unlock,
    /// What to log.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
    /// How long to keep what is not needed any more.
    pub grace: Grace,
    /// How often to challenge members that only store.
    pub cadence: Cadence,
}

impl Args {
    /// Takes what no flag and no variable set from the file, or the default.
    ///
    /// # Errors
    /// `config.toml` cannot be read, or has a field or a value that is not allowed.
    pub fn resolve(self) -> Result<NodeConfig> {
        let config_dir = match self.config_dir {
            Some(dir) => dir,
            None => default_config_dir()?,
        };
        let file = ConfigFile::read(&config_dir)?;
        let FileConfig { listen, bootstrap, join, api, api_host, data_dir, .. } = &file.values;
        let FileConfig { zone, capacity, out_after, storage_only, log, log_format, .. } =
            &file.values;
        let passphrase_file = &file.values.passphrase_file;
        let listen = file.or(self.listen, "listen", listen, str::parse)?;
        let listen = listen.unwrap_or(Address { host: None, port: DEFAULT_PORT });
        let api = file.or(self.api, "api", api, str::parse)?;
        let data_dir = match self.data_dir.or_else(|| data_dir.clone()) {
            Some(dir) => dir,
            None => default_data_dir(listen.port)?,
        };
        let zone = file.or(self.zone, "zone", zone, |text| Ok::<_, String>(text.to_owned()))?;
        Ok(NodeConfig {
            listen: bind_addr(&listen, Ipv6Addr::UNSPECIFIED.into())?,
            bootstrap: file.or_all(self.bootstrap, "bootstrap", bootstrap, str::parse)?,
            join: self.join.or_else(|| join.clone()),
            init: self.init.unwrap_or(false),
            new_node: self.new_node.unwrap_or(false),
            api: match api {
                Some(api) => bind_addr(&api, Ipv4Addr::LOCALHOST.into())?,
                None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            },
            api_hosts: file.or_all(self.api_host, "api-host", api_host, parse_host)?,
            data_dir,
            config_dir,
            zone: parse_zone(zone.unwrap_or_else(|| "default".to_owned()))?,
            capacity: file.or(self.capacity, "capacity", capacity, parse_size)?,
            out_after: file
                .or(self.out_after, "out-after", out_after, parse_time)?
                .unwrap_or(OUT_AFTER),
            storage_only: self.storage_only.or(*storage_only).unwrap_or(false),
            unlock: Unlock::for_service(self.passphrase_file.or_else(|| passphrase_file.clone())),
            log: self.log.or_else(|| log.clone()).unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.or(*log_format).unwrap_or_default(),
            grace: self.grace.map_or_else(Grace::default, Grace::short),
            cadence: self.prove_every.map_or_else(Cadence::default, Cadence::short),
        })
    }
}

fn parse_zone(zone: String) -> Result<String> {
    if zone.is_empty() || zone.len() > ZONE_BYTES_MAX || zone.chars().any(char::is_control) {
        bail!("a zone is a name of 1 to {ZONE_BYTES_MAX} bytes without control characters");
    }
    Ok(zone)
}

fn bind_addr(address: &Address, any: IpAddr) -> Result<SocketAddr> {
    let ip = match address.host.as_deref() {
        None => any,
        Some("localhost") => Ipv4Addr::LOCALHOST.into(),
        Some(host) => host
            .parse()
            .with_context(|| format!("{host:?} is not an IP address of this host to listen on"))?,
    };
    Ok(SocketAddr::new(ip, address.port))
}

/// The user's config directory for dfs.
///
/// # Errors
/// No home directory.
pub fn default_config_dir() -> Result<PathBuf> {
    Ok(strategy()?.config_dir().join("dfs"))
}

fn default_data_dir(port: u16) -> Result<PathBuf> {
    Ok(strategy()?.data_dir().join("dfs").join(format!("node-{port}")))
}

fn strategy() -> Result<impl BaseStrategy> {
    choose_base_strategy().context("no home directory: give --config-dir and --data-dir")
}

/// Reads a size: a number and an optional unit, decimal (`GB`) or binary (`GiB`).
///
/// # Errors
/// A sentence for the user.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.trim().parse()?;
    Ok(size.as_u64())
}

/// Reads the name of a host.
fn parse_host(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = (1..=253).contains(&text.len()) && text.chars().all(allowed);
    let why = || format!("{text:?} is not a host name; leave the port out");
    is_name.then(|| text.to_owned()).ok_or_else(why)
}

/// Reads a time, as `90s`, `5m`, `2h` or `1d 12h`.
///
/// # Errors
/// A sentence for the user.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text.trim()).ok();
    let time = parsed.filter(|time| !time.is_zero() && *time <= TIME_MAX);
    time.ok_or_else(|| format!("{text:?} is not a time such as 90s, 5m, 2h or 1d"))
}

/// The longest time that is accepted: ten years.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const DEFAULT_PORT: u16 = 3000;
/// Enough for "region/room/rack".
const ZONE_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in
            [("5", 5), ("1kB", 1000), ("2 GiB", 2 << 30), ("1TB", 1_000_000_000_000)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1XB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("5s", 5), ("2m", 120), (" 3h ", 10_800), ("1d", 86_400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "99999999999999999999s", "99999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_the_default() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), "zone = \"attic\"\nlisten = \":4000\"\n")
            .unwrap();
        let config_dir = dir.path().to_str().unwrap();
        let args = ["dfs-node", "--config-dir", config_dir, "--data-dir", "d", "--zone", "cellar"];
        let config = Args::parse_from(args).resolve().unwrap();
        assert_eq!((config.zone.as_str(), config.listen.port()), ("cellar", 4000));
        assert!(config.listen.ip().is_unspecified());
        assert_eq!(config.api, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }

    #[test]
    fn a_switch_is_read_as_people_write_it() {
        let storage_only = |args: &[&str]| {
            let args = ["dfs-node"].iter().chain(args).copied();
            Args::try_parse_from(args).map(|args| args.storage_only).ok()
        };
        assert_eq!(storage_only(&["--storage-only"]), Some(Some(true)));
        for text in ["1", "true", "yes", "on"] {
            assert_eq!(storage_only(&["--storage-only", text]), Some(Some(true)), "{text}");
        }
        for text in ["0", "false", "no", "off"] {
            assert_eq!(storage_only(&["--storage-only", text]), Some(Some(false)), "{text}");
        }
        assert_eq!(storage_only(&["--storage-only", "perhaps"]), None);
    }

    #[test]
    fn an_unknown_field_in_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), "lisen = \":4000\"\n").unwrap();
        let config_dir = dir.path().to_str().unwrap();
        let error = Args::parse_from(["dfs-node", "--config-dir", config_dir]).resolve();
        assert!(format!("{:#}", error.unwrap_err()).contains("lisen"));
    }
}
