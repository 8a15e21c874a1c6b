//! What a terminal is shown of text that others chose: names, paths, what peers say.
//!
//! Raw, such text could move the cursor, rename the window or turn the order of what is read. So on
//! a terminal it is quoted. Whatever reads a pipe gets it as it is.

use std::borrow::Cow;
use std::fmt::Write;

/// A name, quoted as `ls` does, so that a shell reads it back: `'Icon'$'\r'`.
pub fn name(name: &str) -> Cow<'_, str> {
    if !name.contains(acts) {
        return name.into();
    }
    let mut quoted = String::new();
    let mut open = None;
    for c in name.chars() {
        let kind = if acts(c) { "$'" } else { "'" };
        if open != Some(kind) {
            quoted.push_str(if open.is_some() { "'" } else { "" });
            quoted.push_str(kind);
            open = Some(kind);
        }
        match c {
            '\'' => quoted.push_str(r"'\''"),
            c if acts(c) => escape(c, &mut quoted),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted.into()
}

/// Text of one line with what would act on a terminal in the notation of Rust and JSON.
pub fn line(line: &str) -> Cow<'_, str> {
    escaped(line, acts, |c, out| out.extend(c.escape_default()))
}

/// Text of several lines and columns, whose names were quoted before.
pub fn text(text: &str) -> Cow<'_, str> {
    let acts_otherwise = |c| acts(c) && c != '\n' && c != '\t';
    escaped(text, acts_otherwise, |c, out| out.extend(c.escape_default()))
}

/// An object in JSON, which means the same afterwards.
pub fn json(object: &str) -> Cow<'_, str> {
    escaped(object, acts, |c, out| {
        // None of them is outside the first plane; to a String it is always written.
        let _ = write!(out, "\\u{:04x}", u32::from(c));
    })
}

fn escaped(
    text: &str,
    is_meant: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_meant) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_meant(c) { escape(c, &mut out) } else { out.push(c) }
    }
    out.into()
}

/// A character as a shell reads it between `$'` and `'`.
fn escape(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str(r"\n"),
        '\r' => out.push_str(r"\r"),
        '\t' => out.push_str(r"\t"),
        c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
            let _ = write!(out, "\\{byte:03o}");
        }),
    }
}

/// Whether a terminal does something with a character instead of showing it, or reads what stands
/// around it in another order (Unicode 16, Bidi_Control), or in another line.
fn acts(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_a_shell_reads_them() {
        for (plain, quoted) in [
            ("notes.txt", "notes.txt"),
            ("it's a 文件 👩‍💻", "it's a 文件 👩‍💻"),
            ("Icon\r", r"'Icon'$'\r'"),
            ("\ta\nb", r"$'\t''a'$'\n''b'"),
            ("it's\n", r"'it'\''s'$'\n'"),
            ("\x1b]0;x\x07", r"$'\033'']0;x'$'\007'"),
            ("a\u{202e}fdp", r"'a'$'\342\200\256''fdp'"),
            ("\u{9b}31m", r"$'\302\233''31m'"),
        ] {
            assert_eq!(name(plain), quoted);
            assert!(!name(plain).contains(acts));
            let echo = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {}", name(plain))])
                .output();
            if let Ok(echo) = echo.map(|echo| echo.stdout)
                && name(plain) != plain
            {
                assert_eq!(echo, plain.as_bytes(), "{quoted}");
            }
        }
    }

    #[test]
    fn lines_stay_lines_and_objects_stay_the_same() {
        assert_eq!(line("cannot read a\nb\x1b[2J"), "cannot read a\\nb\\u{1b}[2J");
        assert_eq!(text("a\tb\n\x1b[2J\u{202e}\n"), "a\tb\n\\u{1b}[2J\\u{202e}\n");
        let path = "C1 \u{9b}31m, DEL \x7f, turned \u{202e}\u{2066}, line \u{2028}";
        let object = serde_json::json!({ "path": path }).to_string();
        assert!(object.contains(acts) && !json(&object).contains(acts));
        let back: serde_json::Value = serde_json::from_str(&json(&object)).unwrap();
        assert_eq!(back["path"], path);
        for plain in ["", "plain", "ünïcødé"] {
            assert!(matches!(line(plain), Cow::Borrowed(_)) && name(plain) == plain);
        }
    }
}
