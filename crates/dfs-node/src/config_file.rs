//! `config.toml`: the same names as the flags of `dfs-node`. What is wrong in it is told with its
//! line.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use toml::Spanned;

use crate::config::LogFormat;

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct FileConfig {
    pub(crate) listen: Option<Spanned<String>>,
    pub(crate) bootstrap: Vec<Spanned<String>>,
    pub(crate) join: Option<String>,
    pub(crate) api: Option<Spanned<String>>,
    pub(crate) api_host: Vec<Spanned<String>>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) zone: Option<Spanned<String>>,
    pub(crate) capacity: Option<Spanned<String>>,
    pub(crate) out_after: Option<Spanned<String>>,
    pub(crate) storage_only: Option<bool>,
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) log: Option<String>,
    pub(crate) log_format: Option<LogFormat>,
}

/// The file, and where its values stand.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    pub(crate) values: FileConfig,
}

impl ConfigFile {
    /// Reads the file of a config directory; one that is not there says nothing.
    pub(crate) fn read(config_dir: &Path) -> Result<Self> {
        let path = config_dir.join("config.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("could not read {}", path.display()));
            }
        };
        let values = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        Ok(Self { path, text, values })
    }

    /// The names of the values that it has.
    pub(crate) fn names(&self) -> Vec<String> {
        let table: toml::Table = self.text.parse().unwrap_or_default();
        table.keys().cloned().collect()
    }

    /// What is given beside the file, or else what the file says.
    pub(crate) fn or<T, E: Display>(
        &self,
        given: Option<T>,
        name: &str,
        value: &Option<Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        match (given, value) {
            (Some(given), _) => Ok(Some(given)),
            (None, Some(value)) => self.parsed(name, value, parse).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The same of a list, of which the one replaces the other.
    pub(crate) fn or_all<T, E: Display>(
        &self,
        given: Vec<T>,
        name: &str,
        values: &[Spanned<String>],
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>> {
        if !given.is_empty() {
            return Ok(given);
        }
        values.iter().map(|value| self.parsed(name, value, &parse)).collect()
    }

    fn parsed<T, E: Display>(
        &self,
        name: &str,
        value: &Spanned<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T> {
        let text = value.get_ref();
        parse(text).map_err(|error| {
            let before = self.text.get(..value.span().start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            anyhow!("{}:{line}: {name} {text:?}: {error}", self.path.display())
        })
    }
}
