//! Patterns of what `put -r` leaves out, as rsync has them.
//!
//! A pattern without a slash is held against names, one with a slash against the end of the path
//! below the top, and one that begins with a slash against all of it. A slash at the end asks for a
//! directory. `*` and `?` stop at slashes and `**` does not.

use std::path::{Path, PathBuf};

use crate::cli::paths::failed_to_read;
use crate::exit::{Code, Failure};

/// One pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// Begins at the top.
    anchored: bool,
    dirs_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    Any,
    /// `[a-z]`, `[!a-z]`
    OneOf(Vec<(char, char)>, bool),
    /// `*`
    Star,
    /// `**`
    Deep,
    /// `**/`: any number of directories, none too. Always followed by [`Token::Inside`].
    Dirs,
    /// Within such a directory's name.
    Inside,
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let usage = |why: &str| Failure::new(Code::Usage, format!("the pattern {text:?} {why}"));
        let dirs_only = text.ends_with('/');
        let anchored = text.starts_with('/');
        let body = text.trim_start_matches('/').trim_end_matches('/');
        if body.is_empty() {
            return Err(usage("names nothing"));
        }
        let tokens = tokens(body).ok_or_else(|| usage("has a '[' or '\\' that does not end"))?;
        Ok(Self { tokens, anchored, dirs_only })
    }

    /// Whether it is for a file or directory with this path below the top.
    pub(super) fn matches(&self, below: &str, is_dir: bool) -> bool {
        if self.dirs_only && !is_dir {
            return false;
        }
        let later = below.match_indices('/').map(|(at, _)| &below[at + 1..]);
        self.matches_all(below)
            || (!self.anchored && later.into_iter().any(|end| self.matches_all(end)))
    }

    /// Every place in the pattern that the text so far can have led to is followed at once, so a
    /// pattern costs the same whatever it is.
    fn matches_all(&self, text: &str) -> bool {
        let mut at = vec![false; self.tokens.len() + 1];
        at[0] = true;
        self.skip_what_may_be_nothing(&mut at);
        for c in text.chars() {
            let mut next = vec![false; at.len()];
            for (place, token) in self.tokens.iter().enumerate().filter(|(place, _)| at[*place]) {
                match token {
                    Token::Char(wanted) => next[place + 1] |= c == *wanted,
                    Token::Any => next[place + 1] |= c != '/',
                    Token::OneOf(ranges, wanted) => {
                        let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                        next[place + 1] |= c != '/' && is_in == *wanted;
                    }
                    Token::Star => next[place] |= c != '/',
                    Token::Deep => next[place] = true,
                    Token::Dirs => next[place + 1] |= c != '/',
                    Token::Inside => {
                        next[place] = true;
                        next[place + 1] |= c == '/';
                    }
                }
            }
            self.skip_what_may_be_nothing(&mut next);
            at = next;
        }
        at[self.tokens.len()]
    }

    fn skip_what_may_be_nothing(&self, at: &mut [bool]) {
        for (place, token) in self.tokens.iter().enumerate() {
            match token {
                Token::Star | Token::Deep if at[place] => at[place + 1] = true,
                Token::Dirs if at[place] => at[place + 2] = true,
                _ => {}
            }
        }
    }
}

/// `None` when something in it does not end.
fn tokens(body: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                while chars.next_if_eq(&'*').is_some() {}
                let begins = matches!(tokens.last(), None | Some(Token::Char('/')));
                if begins && chars.next_if_eq(&'/').is_some() {
                    tokens.extend([Token::Dirs, Token::Inside]);
                } else {
                    tokens.push(Token::Deep);
                }
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '\\' => tokens.push(Token::Char(chars.next()?)),
            '[' => tokens.push(set(&mut chars)?),
            c => tokens.push(Token::Char(c)),
        }
    }
    Some(tokens)
}

/// The rest of a `[...]`. A `]` that comes first is one of the characters.
fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let wanted = chars.next_if(|c| ['!', '^'].contains(c)).is_none();
    let mut ranges: Vec<(char, char)> = Vec::new();
    loop {
        match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::OneOf(ranges, wanted)),
            from => {
                let from = if from == '\\' { chars.next()? } else { from };
                let mut ahead = chars.clone();
                let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
                let to = if is_range {
                    chars.next();
                    match chars.next()? {
                        '\\' => chars.next()?,
                        to => to,
                    }
                } else {
                    from
                };
                ranges.push((from, to));
            }
        }
    }
}

/// The patterns that were typed and those in files.
pub(super) fn all(typed: &[String], files: &[PathBuf]) -> Result<Vec<Pattern>, Failure> {
    let typed: Result<Vec<_>, _> = typed.iter().map(|text| Pattern::parse(text)).collect();
    let mut all = typed?;
    for file in files {
        all.extend(from_file(file)?);
    }
    Ok(all)
}

/// The patterns of a file, one a line; empty lines and those that begin with `#` have none.
fn from_file(path: &Path) -> Result<Vec<Pattern>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| failed_to_read(path, &error))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(Pattern::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::parse(pattern).unwrap();
        let check = |path: &str, expected| {
            let (is_dir, below) = (path.ends_with('/'), path.trim_end_matches('/'));
            assert_eq!(compiled.matches(below, is_dir), expected, "{pattern} {path}");
        };
        matching.iter().for_each(|path| check(path, true));
        others.iter().for_each(|path| check(path, false));
    }

    #[test]
    fn names_are_matched_at_any_depth_and_paths_at_their_end() {
        check("*.o", &["a.o", "x/y/a.o", ".o"], &["a.oo", "a.o/b"]);
        check("target", &["target", "a/target/"], &["targets", "a-target"]);
        check("target/", &["target/", "a/target/"], &["target"]);
        check("/target", &["target"], &["a/target"]);
        check("a/b", &["a/b", "x/a/b"], &["xa/b", "a/b/c", "a/x/b"]);
        check("/a/*.txt", &["a/1.txt"], &["a/b/1.txt", "x/a/1.txt"]);
        check("?", &["a", "x/b", "é"], &["ab", ""]);
    }

    #[test]
    fn two_stars_cross_directories_and_may_be_none() {
        check("/a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/bz", "az", "b/a/z"]);
        check("**/z", &["z", "a/b/z"], &["az"]);
        check("/a/**", &["a/b", "a/b/c"], &["a", "b"]);
        check("/a**z", &["az", "a/b/z", "abcz"], &["a/b"]);
    }

    #[test]
    fn sets_and_escapes() {
        check("[a-c]1", &["a1", "c1"], &["d1", "a-1"]);
        check("[!a-c]1", &["d1"], &["a1", "a/1", "/1"]);
        check("[]x-]", &["]", "x", "-"], &["a"]);
        check(r"\*[\]]", &["*]"], &["a]"]);
        for bad in ["", "/", "[a", "a[", r"a\", "[]", "[a-"] {
            assert_eq!(Pattern::parse(bad).unwrap_err().code, Code::Usage, "{bad}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = Pattern::parse(&"*a".repeat(200)).unwrap();
        assert!(!pattern.matches(&"a".repeat(199), false));
        assert!(pattern.matches(&"a".repeat(4000), false));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(4000)), false));
    }
}
