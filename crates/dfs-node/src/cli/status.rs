//! `dfs status`: once, or again every second.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::cli::args;
use crate::cli::http::Api;
use crate::cli::output::{Output, print_after, size};
use crate::exit::Failure;

pub(super) fn run(api: &Api, args: &args::Status, out: &Output) -> Result<(), Failure> {
    let clears = args.watch && !out.json && io::stdout().is_terminal();
    let mut is_first = true;
    loop {
        let status = api.status()?;
        if out.json {
            out.object(&status)?;
        } else {
            let before = match (clears, is_first) {
                (true, _) => CLEAR,
                (false, true) => "",
                (false, false) => "\n",
            };
            // Into memory first: it is drawn at once, so an interrupt leaves none half drawn.
            let mut text = Vec::new();
            print_after(before, |shown| {
                show(&status, &mut text)?;
                shown.write_all(&text)
            })?;
        }
        if !args.watch {
            return Ok(());
        }
        is_first = false;
        std::thread::sleep(EVERY);
    }
}

fn show(status: &Value, shown: &mut dyn Write) -> io::Result<()> {
    let text = |name: &str| match &status[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    writeln!(shown, "{}: {}", text("health"), text("message"))?;
    writeln!(shown, "nodes      {} of {} alive", text("alive"), text("nodes"))?;
    if let Some(cost) = status["next_failure"]["message"].as_str() {
        writeln!(shown, "if 1 fails {cost}")?;
    }
    let bytes = status["bytes"].as_u64().unwrap_or(0);
    writeln!(shown, "files      {} ({})", text("files"), size(bytes))?;
    let (pieces, queued) = (text("under_replicated"), text("repair_queue"));
    writeln!(shown, "to copy    {pieces} pieces, {queued} queued")?;
    if status["copying"].is_object() {
        writeln!(shown, "copying    {}", copying(&status["copying"]))?;
    }
    if status["repair_paused"] == true {
        writeln!(shown, "repair     paused on this node: 'dfs repair resume' goes on")?;
    }
    writeln!(shown, "lost       {} pieces", text("unrecoverable"))?;
    if status["unrecoverable"].as_u64().is_some_and(|count| count > 0) {
        writeln!(shown, "           'dfs repair lost' names the files")?;
    }
    if status["unreadable"].as_u64().is_some_and(|count| count > 0) {
        writeln!(shown, "unread     {} pieces or rows on this disk", text("unreadable"))?;
    }
    for (name, said) in [("drains", "drain     "), ("disks", "disk      ")] {
        for text in status[name].as_array().into_iter().flatten().filter_map(Value::as_str) {
            writeln!(shown, "{said} {text}")?;
        }
    }
    writeln!(shown, "conflicts  {}", text("conflicts"))?;
    let (epoch, moving) = (text("epoch"), text("moving"));
    let voters = status["voters"].as_array().map_or(0, Vec::len);
    writeln!(shown, "layout     epoch {epoch}, {moving} partitions moving, {voters} voters")?;
    if let Some(zone) = status["limiting_zone"].as_str() {
        writeln!(shown, "space      zone {zone} offers least, and every zone holds a copy of all")?;
    }
    if status["key_backup"] == false {
        writeln!(shown, "key        not backed up: run 'dfs key export', then 'dfs key verify'")?;
    }
    Ok(())
}

/// What this node fetches, how fast, and how long it will take.
fn copying(copying: &Value) -> String {
    let number = |name: &str| copying[name].as_u64();
    let pieces = number("pieces").unwrap_or(0);
    let mut text = format!("{pieces} pieces to this node");
    if let Some(bytes) = number("bytes") {
        text.push_str(&format!(", about {}", size(bytes)));
    }
    let rate = number("bytes_per_second").unwrap_or(0);
    text.push_str(&format!(", at {}/s", size(rate)));
    match number("seconds") {
        Some(seconds) => {
            let left = humantime::format_duration(Duration::from_secs(seconds.max(1)));
            text.push_str(&format!(", {left} left"));
        }
        None => text.push_str(", nobody can say for how long"),
    }
    text
}

/// Moves to the top left corner and clears what is below, as terminals have since the VT100.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// The time from one status to the next.
const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_copied_is_told_with_bytes_and_time() {
        let known =
            json!({"pieces": 30, "bytes": 31 << 20, "bytes_per_second": 1 << 20, "seconds": 95});
        let expected = "30 pieces to this node, about 31.0 MiB, at 1.0 MiB/s, 1m 35s left";
        assert_eq!(copying(&known), expected);
        let unknown = json!({"pieces": 1, "bytes_per_second": 0});
        let expected = "1 pieces to this node, at 0 B/s, nobody can say for how long";
        assert_eq!(copying(&unknown), expected);
    }

    #[test]
    fn lines_for_what_is_not_there_are_left_out() {
        let mut text = Vec::new();
        show(&json!({"health": "ok", "message": "fine", "unreadable": 0}), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("ok: fine\n"), "{text}");
        assert!(!text.contains("copying") && !text.contains("unread"), "{text}");
        let mut text = Vec::new();
        let status =
            json!({"unreadable": 2, "copying": {"pieces": 3}, "next_failure": {"message": "x"}});
        show(&status, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in ["if 1 fails x\n", "copying    3 pieces", "unread     2 pieces"] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
    }
}
