//! `dfs scrub`: the scrub of the node that is asked.

use std::io::{self, Write};

use crate::api::ScrubStatus;
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

fn show(status: &ScrubStatus, text: &mut dyn Write) -> io::Result<()> {
    writeln!(text, "{}", sentence(status))?;
    let (verified, total) = (size(status.bytes_verified), size(status.bytes_total));
    writeln!(text, "verified   {verified} of {total}")?;
    writeln!(text, "rate       {}/s", size(status.bytes_per_second))?;
    writeln!(text, "bad        {} pieces, {} unread", status.bad, status.unread)?;
    let (sums, rows) = (status.sums_mended, status.rows_damaged);
    writeln!(text, "index      {sums} sums mended, {rows} rows damaged")?;
    writeln!(text, "last pass  {}", status.last_complete.as_deref().unwrap_or("never"))?;
    if let Some(next) = &status.next {
        writeln!(text, "next pass  {next}")?;
    }
    Ok(())
}

fn sentence(status: &ScrubStatus) -> String {
    let percent = status.percent;
    match (status.state.as_str(), &status.began) {
        ("running", _) => format!("running: {percent:.1} % of this node's disk read back"),
        ("paused", Some(_)) => format!(
            "paused at {percent:.1} %: 'dfs scrub resume' goes on, 'dfs scrub start' begins anew"
        ),
        ("paused", None) => "paused: no pass begins until 'dfs scrub resume'".to_owned(),
        (other, _) => format!("{other}: no pass is under way"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, began: Option<&str>) -> ScrubStatus {
        ScrubStatus {
            state: state.to_owned(),
            percent: 12.5,
            bytes_verified: 1 << 20,
            bytes_total: 8 << 20,
            bad: 1,
            unread: 0,
            sums_mended: 0,
            rows_damaged: 0,
            bytes_per_second: 1024,
            began: began.map(str::to_owned),
            last_complete: None,
            next: None,
        }
    }

    #[test]
    fn the_first_line_says_what_it_does() {
        let began = Some("2026-11-25T16:47:09Z");
        for (state, began, expected) in [
            ("running", began, "running: 12.5 % of"),
            ("paused", began, "paused at 12.5 %"),
            ("paused", None, "paused: no pass begins"),
            ("idle", None, "idle: no pass is under way"),
        ] {
            let mut text = Vec::new();
            show(&status(state, began), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with(expected), "{text}");
            assert!(text.contains("verified   1.0 MiB of 8.0 MiB\n"), "{text}");
        }
    }
}
