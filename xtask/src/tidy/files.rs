//! Rules on the text of one file: the operating-system seam, `biased` in every `select!`, bounded
//! channels, its length and its width.

use super::layers::is_ruled;

/// Looks at one file; `shown` is its path in the repository.
pub(super) fn check_file(shown: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{shown} has {lines} lines: it has two subjects"));
    }
    let is_tool = shown.starts_with("xtask/");
    let is_source = shown.contains("/src/") && !shown.contains("test");
    let in_seam = is_tool || OUTSIDE_THE_SEAM.iter().any(|outside| shown.starts_with(outside));
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        if is_source && !in_seam {
            for word in SEAM.iter().filter(|word| code.contains(**word)) {
                faults.push(format!("{shown}:{number} uses {word}: ask dfs-env"));
            }
        }
        let chars = line.chars().count();
        if chars > CHARS_MAX && is_narrow(shown) {
            faults.push(format!("{shown}:{number} is {chars} characters wide"));
        }
        if !is_tool && code.contains("unbounded") {
            faults.push(format!("{shown}:{number} has a channel without a bound"));
        }
    }
    check_selects(shown, text, faults);
}

/// Whether a file is held to [`CHARS_MAX`].
fn is_narrow(shown: &str) -> bool {
    let krate = shown.split('/').nth(1).unwrap_or_default();
    !shown.starts_with("crates/") || is_ruled(krate)
}

fn check_selects(shown: &str, text: &str, faults: &mut Vec<String>) {
    if shown.starts_with("xtask/") {
        return;
    }
    for (at, _) in text.match_indices("select! {") {
        let body = text[at + "select! {".len()..].trim_start();
        if !body.starts_with("biased;") {
            let number = text[..at].lines().count();
            faults.push(format!("{shown}:{number} has a select! without biased"));
        }
    }
}

/// What only the seam, and the programs at the edge, may touch.
const SEAM: [&str; 8] = [
    "std::fs::",
    "tokio::fs::",
    "tokio::net::",
    "SystemTime::now",
    "tokio::spawn",
    "spawn_blocking",
    "thread::sleep",
    "thread::spawn",
];
const OUTSIDE_THE_SEAM: [&str; 4] =
    ["crates/dfs-env/", "crates/dfs-node/", "crates/dfs-sim/", "crates/dfs-testbed/"];
/// What rustfmt breaks code at; it leaves comments and strings as they are.
const CHARS_MAX: usize = 100;
/// A longer file has two subjects.
const LINES_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &str, text: &str, expected: usize) {
        let mut faults = Vec::new();
        check_file(shown, text, &mut faults);
        assert_eq!(faults.len(), expected, "{faults:?}");
    }

    #[test]
    fn the_seam_is_held_outside_its_crate() {
        check("crates/dfs-store/src/a.rs", "let x = std::fs::read(p);", 1);
        check("crates/dfs-env/src/real.rs", "let x = std::fs::read(p);", 0);
        check("crates/dfs-store/src/a.rs", "// std::fs::read would block", 0);
    }

    #[test]
    fn every_select_is_biased_and_every_channel_bounded() {
        check("crates/a/src/a.rs", "tokio::select! {\n    biased;\n    x => {}\n}", 0);
        check("crates/a/src/a.rs", "tokio::select! {\n    x => {}\n}", 1);
        check("crates/a/src/a.rs", "let (a, b) = mpsc::unbounded_channel();", 1);
    }

    #[test]
    fn no_line_is_wider_than_code_may_be() {
        let wide = "é".repeat(CHARS_MAX);
        check("crates/dfs-core/src/a.rs", &wide, 0);
        check("crates/dfs-core/src/a.rs", &format!("// {wide}"), 1);
    }
}
