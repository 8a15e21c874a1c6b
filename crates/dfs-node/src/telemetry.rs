//! Logs on stderr.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::log_limit::Limited;

/// Starts logging.
///
/// # Errors
/// The filter cannot be parsed.
pub fn start(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter {filter:?}"))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It reports a failed write with `eprintln!`, which panics when stderr is a closed pipe or
        // a full disk; a log line must not end the task that writes it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let format_text = tracing_subscriber::fmt::format();
    match format {
        LogFormat::Text => builder.event_format(Limited::new(format_text, false)).init(),
        LogFormat::Json => {
            let format_json = format_text.json();
            builder.json().event_format(Limited::new(format_json, true)).init();
        }
    }
    Ok(())
}
