//! `dfs-node config`: what a node would run with, and where each value comes from.

use std::fmt::Write;

use anyhow::Result;
use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::NodeConfig;
use crate::config_file::ConfigFile;

/// The configuration as a `config.toml`, with where each value comes from if that is wanted.
///
/// # Errors
/// The file cannot be read any more.
pub fn show(config: &NodeConfig, matches: &ArgMatches, origin: bool) -> Result<String> {
    let in_file = ConfigFile::read(&config.config_dir)?.names();
    let from = |name: &str| match matches.value_source(&name.replace('-', "_")) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        _ if in_file.iter().any(|known| known == name) => "file",
        _ => "default",
    };
    let mut text = String::new();
    for (name, value) in values(config) {
        // A default that is no value cannot be written as one.
        let line = match value {
            Some(value) => format!("{name} = {value}"),
            None if name == "join" && config.join.is_some() => {
                "# join is set, and not shown".to_owned()
            }
            None => format!("# {name} is not set"),
        };
        match origin {
            true => writeln!(text, "{line:<48} # {}", from(name))?,
            false => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

fn values(config: &NodeConfig) -> Vec<(&'static str, Option<toml::Value>)> {
    let text = |value: &dyn ToString| toml::Value::String(value.to_string());
    let list = |all: Vec<String>| {
        (!all.is_empty()).then(|| toml::Value::Array(all.iter().map(|one| text(one)).collect()))
    };
    let log_format = format!("{:?}", config.log_format).to_lowercase();
    vec![
        ("listen", Some(text(&config.listen))),
        ("bootstrap", list(config.bootstrap.iter().map(ToString::to_string).collect())),
        // A line is as secret as a key.
        ("join", None),
        ("api", Some(text(&config.api))),
        ("api-host", list(config.api_hosts.clone())),
        ("data-dir", Some(text(&config.data_dir.display()))),
        ("zone", Some(text(&config.zone))),
        ("capacity", config.capacity.map(|bytes| text(&bytes))),
        ("out-after", Some(text(&humantime::format_duration(config.out_after)))),
        ("storage-only", Some(toml::Value::Boolean(config.storage_only))),
        ("passphrase-file", config.unlock.file().map(|file| text(&file.display()))),
        ("log", Some(text(&config.log))),
        ("log-format", Some(text(&log_format))),
    ]
}
