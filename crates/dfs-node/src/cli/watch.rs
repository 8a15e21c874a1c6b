//! `dfs watch`: what changes in a directory, as it happens.

use std::io::{self, BufRead};
use std::time::Duration;

use dfs_server::{Change, Changed, ListedKind};
use serde_json::{Value, json};

use crate::api::ErrorBody;
use crate::cli::args::Watch;
use crate::cli::http::Api;
use crate::cli::output::{Output, print, shown};
use crate::cli::paths::remote_dir;
use crate::exit::{Code, Failure, tell};

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
    id: Option<String>,
}

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    /// The last event whose id is known: what came after it is asked for again.
    id: Option<String>,
    /// Whether it was said from when on changes are told.
    has_begun: bool,
    /// What was said that the node cannot do for now.
    trouble: Option<String>,
}

pub(super) fn run(api: &Api, args: &Watch, out: &Output) -> Result<(), Failure> {
    let dir = remote_dir(&args.dir)?.map_or(String::new(), |dir| dir.to_string());
    let mut told = Told::default();
    loop {
        // A node that goes away is waited for anew each time.
        let events = api
            .patiently(|api| api.events("watch", &[("dir", &dir)], told.id.as_deref(), SILENT_MAX));
        let trouble = match events {
            Ok(mut events) => follow(&mut events, &dir, &mut told, out)?,
            Err(failure) if told.has_begun && failure.code == Code::Retryable => {
                Some(failure.message)
            }
            Err(failure) => return Err(failure),
        };
        told.say(trouble);
        std::thread::sleep(AGAIN_AFTER);
    }
}

impl Told {
    /// Says once what the node cannot do for now: what a majority cannot tell it will tell later.
    fn say(&mut self, trouble: Option<String>) {
        if let Some(trouble) = &trouble
            && self.trouble.is_none()
        {
            tell(format_args!("{trouble}; going on when that is over"));
        }
        self.trouble = trouble;
    }
}

/// Shows what is told until the connection ends. Returns what the node could not do for now.
fn follow(
    events: &mut dyn BufRead,
    dir: &str,
    told: &mut Told,
    out: &Output,
) -> Result<Option<String>, Failure> {
    loop {
        // However it ends, what comes after what was told is asked for again.
        let Ok(Some(event)) = next(events) else { return Ok(None) };
        match event.name.as_str() {
            "list" => show_list(dir, told, out)?,
            "change" => show(&event.data, out)?,
            "error" => return failed(&event.data).map(Some),
            // Of a later version.
            _ => {}
        }
        told.trouble = None;
        told.id = event.id.or_else(|| told.id.take());
    }
}

fn failed(data: &str) -> Result<String, Failure> {
    let unexpected = |_| Failure::new(Code::Failed, format!("an unexpected answer: {data}"));
    let body: ErrorBody = serde_json::from_str(data).map_err(unexpected)?;
    if body.exit == Code::Retryable {
        return Ok(body.error);
    }
    let ErrorBody { error: message, hint, exit: code } = body;
    Err(Failure { code, message, hint })
}

fn show_list(dir: &str, told: &mut Told, out: &Output) -> Result<(), Failure> {
    if out.json {
        out.object(&json!({ "path": dir, "change": "listed", "entry": Value::Null }))?;
    } else if told.has_begun {
        tell("more changed than could be told: 'dfs ls' shows what is there now");
    }
    told.has_begun = true;
    Ok(())
}

fn show(data: &str, out: &Output) -> Result<(), Failure> {
    let unexpected = |error| Failure::new(Code::Failed, format!("an unexpected answer: {error}"));
    let changed: Changed = serde_json::from_str(data).map_err(unexpected)?;
    if out.json {
        return out.object(&changed);
    }
    let word = match changed.change {
        Change::Created => "created",
        Change::Changed => "changed",
        Change::Removed => "removed",
    };
    let is_dir = changed.entry.is_some_and(|entry| entry.kind == ListedKind::Dir);
    let mark = if is_dir { "/" } else { "" };
    print(|text| writeln!(text, "{word}  {}{mark}", shown(&changed.path)))
}

/// Reads the next event that has data; `None` at the end.
fn next(events: &mut dyn BufRead) -> io::Result<Option<Event>> {
    let (mut event, mut line) = (Event::default(), String::new());
    loop {
        line.clear();
        if read_line(events, &mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end_matches(['\n', '\r']);
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if text.is_empty() && !event.data.is_empty() => return Ok(Some(event)),
            "event" => event.name = value.to_owned(),
            "data" => event.data.push_str(value),
            "id" => event.id = Some(value.to_owned()),
            // A comment, and what nobody asked for.
            _ => {}
        }
    }
}

fn read_line(events: &mut dyn BufRead, line: &mut String) -> io::Result<usize> {
    let read = io::Read::take(events, LINE_BYTES_MAX).read_line(line)?;
    if read as u64 == LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line has no end"));
    }
    Ok(read)
}

/// Far above what is told of one name.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How long a node may be silent that says every ten seconds that it is there.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// When a node is asked again whose connection ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mut text: &[u8], expected: &[(&str, &str, Option<&str>)]) {
        for (name, data, id) in expected {
            let id = id.map(str::to_owned);
            let event = Event { name: (*name).to_owned(), data: (*data).to_owned(), id };
            assert_eq!(next(&mut text).unwrap(), Some(event));
        }
        assert_eq!(next(&mut text).unwrap(), None);
    }

    #[test]
    fn events_are_read_past_what_means_nothing() {
        check(b"event: list\nid: 1-2\ndata: {}\n\n", &[("list", "{}", Some("1-2"))]);
        check(b": nothing\n\nevent:a\ndata:b\nretry: 9\n\n:\n\n", &[("a", "b", None)]);
        check(b"event: a\r\ndata: b\r\n\r\ndata: c\n\n", &[("a", "b", None), ("", "c", None)]);
        // Cut off in the midst of one.
        check(b"event: a\ndata: b\n", &[]);
        check(b"", &[]);
    }

    #[test]
    fn a_line_without_end_is_no_event() {
        let long = vec![b'x'; 2 << 20];
        assert!(next(&mut &long[..]).is_err());
    }
}
