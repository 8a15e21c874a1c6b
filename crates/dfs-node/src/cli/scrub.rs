//! `dfs scrub`: the scrub of the node that is asked.

use std::io::{self, Write};

use dfs_server::{ScrubState, ScrubView, rfc3339};

use crate::cli::args::ScrubVerb;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, size};
use crate::exit::Failure;

pub(super) fn run(api: &Api, verb: ScrubVerb, out: &Output) -> Result<(), Failure> {
    let status = match verb {
        ScrubVerb::Start => api.tell_scrub("start")?,
        ScrubVerb::Pause => api.tell_scrub("pause")?,
        ScrubVerb::Resume => api.tell_scrub("resume")?,
        ScrubVerb::Status => api.scrub()?,
    };
    if out.json {
        return out.object(&status);
    }
    print(|text| show(&status, text))
}

fn show(status: &ScrubView, text: &mut dyn Write) -> io::Result<()> {
    writeln!(text, "{}", sentence(status))?;
    let (verified, total) = (size(status.bytes_verified), size(status.bytes_total));
    writeln!(text, "verified   {verified} of {total}")?;
    writeln!(text, "rate       {}/s", size(status.bytes_per_second))?;
    writeln!(text, "bad        {} pieces, {} unread", status.bad, status.unread)?;
    let (sums, rows) = (status.sums_mended, status.rows_damaged);
    writeln!(text, "index      {sums} sums mended, {rows} rows damaged")?;
    let last = status.last_complete_ms.map_or_else(|| "never".to_owned(), rfc3339);
    writeln!(text, "last pass  {last}")?;
    if let Some(next) = status.next_ms {
        writeln!(text, "next pass  {}", rfc3339(next))?;
    }
    Ok(())
}

fn sentence(status: &ScrubView) -> String {
    let percent = f64::from(status.permille) / 10.0;
    match (status.state, status.began_ms) {
        (ScrubState::Running, _) => {
            format!("running: {percent:.1} % of this node's disk read back")
        }
        (ScrubState::Paused, Some(_)) => format!(
            "paused at {percent:.1} %: 'dfs scrub resume' goes on, 'dfs scrub start' begins anew"
        ),
        (ScrubState::Paused, None) => "paused: no pass begins until 'dfs scrub resume'".to_owned(),
        (ScrubState::Idle, _) => "idle: no pass is under way".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: ScrubState, began_ms: Option<u64>) -> ScrubView {
        ScrubView {
            state,
            permille: 125,
            bytes_verified: 1 << 20,
            bytes_total: 8 << 20,
            bad: 1,
            unread: 0,
            sums_mended: 0,
            rows_damaged: 0,
            bytes_per_second: 1024,
            began_ms,
            last_complete_ms: None,
            next_ms: None,
        }
    }

    #[test]
    fn the_first_line_says_what_it_does() {
        let began = Some(1_795_625_229_000);
        for (state, began, expected) in [
            (ScrubState::Running, began, "running: 12.5 % of"),
            (ScrubState::Paused, began, "paused at 12.5 %"),
            (ScrubState::Paused, None, "paused: no pass begins"),
            (ScrubState::Idle, None, "idle: no pass is under way"),
        ] {
            let mut text = Vec::new();
            show(&status(state, began), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with(expected), "{text}");
            assert!(text.contains("verified   1.0 MiB of 8.0 MiB\n"), "{text}");
        }
    }
}
