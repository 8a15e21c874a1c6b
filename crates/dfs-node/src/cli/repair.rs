//! `dfs repair`: the repair of the node that is asked, and the files that cannot be read.

use std::io::{self, Write};
use std::time::Duration;

use dfs_server::{Fate, RepairState, RepairView, UnreadablePage, rfc3339};

use crate::cli::args::RepairVerb;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown, size, word};
use crate::cli::paths::remote_dir;
use crate::exit::{Failure, tell};

pub(super) fn run(api: &Api, verb: &RepairVerb, out: &Output) -> Result<(), Failure> {
    let status = match verb {
        RepairVerb::Start => api.tell_repair("start")?,
        RepairVerb::Pause => api.tell_repair("pause")?,
        RepairVerb::Resume => api.tell_repair("resume")?,
        RepairVerb::Status => api.repair()?,
        RepairVerb::Lost { dir } => return lost(api, dir, out),
    };
    if out.json {
        return out.object(&status);
    }
    print(|text| show(&status, text))
}

fn show(status: &RepairView, text: &mut dyn Write) -> io::Result<()> {
    writeln!(text, "{}", sentence(status))?;
    writeln!(text, "missing    {} pieces", status.missing)?;
    let rate = size(status.bytes_per_second);
    match (status.bytes_left, status.time_left) {
        (Some(bytes), Some(time)) if status.missing > 0 => {
            let left = humantime::format_duration(time.max(Duration::from_secs(1)));
            writeln!(text, "rate       {rate}/s, about {} and {left} left", size(bytes))?;
        }
        _ => writeln!(text, "rate       {rate}/s")?,
    }
    writeln!(text, "away       {} pieces that only nodes may have that are away", status.away)?;
    writeln!(text, "lost       {} pieces without a good copy", status.lost)
}

fn sentence(status: &RepairView) -> &'static str {
    match status.state {
        RepairState::Paused => "paused: nothing is fetched until 'dfs repair resume'",
        RepairState::Running if !status.looked_through => {
            "running: this node looks for what it should hold"
        }
        RepairState::Running => "running: this node fetches what it should hold",
        RepairState::Idle => "idle: nothing is missing on this node",
    }
}

fn lost(api: &Api, dir: &str, out: &Output) -> Result<(), Failure> {
    let dir = remote_dir(dir)?;
    let (mut lost, mut away) = (0usize, 0usize);
    api.unreadable(dir.as_ref(), &mut |page| {
        let is_lost = page.unreadable.iter().filter(|line| line.fate == Fate::Lost).count();
        lost += is_lost;
        away += page.unreadable.len() - is_lost;
        show_page(page, out)
    })?;
    if lost + away > 0 && !out.json {
        tell(format_args!("{lost} versions are lost, {away} are out of reach"));
    }
    if lost > 0 && !out.json {
        tell(
            "hint: 'dfs log PATH' shows versions that may be whole; 'dfs put' or 'dfs rm' ends it",
        );
    }
    if away > 0 && !out.json {
        tell("hint: 'dfs peers' shows the nodes that are away; bring them back first");
    }
    Ok(())
}

fn show_page(page: &UnreadablePage, out: &Output) -> Result<(), Failure> {
    if out.json {
        return page.unreadable.iter().try_for_each(|line| out.object(line));
    }
    print(|text| {
        page.unreadable.iter().try_for_each(|line| {
            let (bytes, version) = (size(line.version.bytes), &line.version);
            writeln!(
                text,
                "{:<12}  {bytes:>10}  {}  {}  {:<8}  {}",
                word(&line.fate),
                rfc3339(version.modified_ms),
                version.version,
                word(&version.state),
                shown(&line.path)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_it_does() {
        for (state, looked_through, expected) in [
            (RepairState::Running, true, "running: this node fetches"),
            (RepairState::Running, false, "running: this node looks"),
            (RepairState::Paused, true, "paused: nothing is fetched"),
            (RepairState::Idle, true, "idle: nothing is missing"),
        ] {
            let status = RepairView {
                state,
                missing: 3,
                lost: 1,
                away: 0,
                looked_through,
                bytes_per_second: 2 << 20,
                bytes_left: Some(3 << 20),
                time_left: Some(Duration::from_secs(2)),
            };
            let mut text = Vec::new();
            show(&status, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with(expected), "{text}");
            assert!(text.contains("rate       2.0 MiB/s, about 3.0 MiB and 2s left\n"), "{text}");
            assert!(text.contains("lost       1 pieces"), "{text}");
        }
    }
}
