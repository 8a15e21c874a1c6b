//! Reads the corpora: bad inputs with the error each must meet, and inputs for the fuzz targets.
//!
//! A line of a bad corpus is `input | expected | why`; `docs/how-to/fuzz.md` has the notation. The
//! tests of every crate include this file, so that none of them depends on another for it.

use std::fmt::{Debug, Display};

/// An error in both its forms.
#[derive(Debug)]
pub(crate) struct Refused {
    variant: String,
    text: String,
}

impl Refused {
    /// Both forms of an error.
    pub(crate) fn of(error: impl Debug + Display) -> Self {
        Self { variant: format!("{error:?}"), text: error.to_string() }
    }

    /// Whether the corpus means this error: its variant with or without its fields, or its text.
    fn is(&self, expected: &str) -> bool {
        let bare = self.variant.split(['(', ' ']).next().unwrap_or_default();
        [bare, &self.variant, &self.text].contains(&expected)
    }
}

/// Builds and parses the input of every line, and panics with all that do not meet what they
/// expect. `covers` names errors that must each be expected somewhere, so that none is forgotten.
#[track_caller]
pub(crate) fn check(
    text: &str,
    covers: &[&str],
    valid: impl Fn(&str) -> Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<(), Refused>,
) {
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<_> = line.split('|').map(str::trim).collect();
        let [input, expected, _why] = parts[..] else {
            panic!("line {number} is not `input | expected | why`");
        };
        seen.push(expected);
        match (parse(&build(input, &valid)), expected) {
            (Ok(()), "ok") => {}
            (Err(error), _) if error.is(expected) => {}
            (met, _) => faults.push(format!("line {number}: {line}\n    met {met:?}")),
        }
    }
    for error in covers.iter().filter(|error| !seen.contains(error)) {
        faults.push(format!("no line expects {error}"));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Runs `target` on every file of its corpus; there must be one.
#[allow(clippy::disallowed_methods, reason = "a test reads files of the repository")]
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let mut count = 0;
    for entry in std::fs::read_dir(seed_dir(target)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs for {target}");
}

/// Checks that an input a fuzzer starts from is still the valid value it was made from: a format
/// that changed by accident shows here. A missing one is made, for someone to look at and commit.
#[allow(clippy::disallowed_methods, reason = "a test reads and makes files of the repository")]
pub(crate) fn check_seed(target: &str, name: &str, bytes: &[u8]) {
    let path = format!("{}/{name}", seed_dir(target));
    match std::fs::read(&path) {
        Ok(committed) => assert!(committed == bytes, "{path} is not what its value encodes to now"),
        Err(_) => {
            std::fs::create_dir_all(seed_dir(target)).unwrap();
            std::fs::write(&path, bytes).unwrap();
            panic!("{path} was missing and is made: look at it and commit it");
        }
    }
}

fn seed_dir(target: &str) -> String {
    format!("{}/../../corpus/fuzz/{target}", env!("CARGO_MANIFEST_DIR"))
}

/// Builds an input: each word appends bytes to what is there, or changes it.
fn build(input: &str, valid: &impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = input;
    while let Some(word) = next_word(&mut rest) {
        if let Some(text) = word.strip_prefix('"') {
            bytes.extend_from_slice(text.as_bytes());
        } else if let Some(name) = word.strip_prefix("valid:") {
            bytes.extend(valid(name));
        } else {
            edit(word, &mut bytes, || next_word(&mut rest).expect("the word has an argument"));
        }
    }
    bytes
}

/// The next word; a quoted text keeps its first quote only.
fn next_word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let start = rest.trim_start();
    let end = match start.strip_prefix('"') {
        Some(text) => text.find('"').expect("a text ends with a quote") + 1,
        None => start.find(' ').unwrap_or(start.len()),
    };
    *rest = start.get(end + 1..).unwrap_or_default();
    (!start.is_empty()).then(|| &start[..end])
}

fn edit<'a>(word: &str, bytes: &mut Vec<u8>, mut argument: impl FnMut() -> &'a str) {
    match word {
        "hex" => bytes.extend(hex(argument())),
        "repeat" => bytes.extend(hex(argument()).repeat(number(argument()))),
        "times" => *bytes = bytes.repeat(number(argument())),
        "cut" => bytes.truncate(place(argument(), bytes)),
        "drop" => {
            let at = place(argument(), bytes);
            bytes.drain(at..at + number(argument()));
        }
        "set" => {
            let (at, new) = (place(argument(), bytes), hex(argument()));
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        "insert" => {
            let at = place(argument(), bytes);
            bytes.splice(at..at, hex(argument()));
        }
        "flip" => {
            let (at, bit) = argument().split_once('.').expect("flip takes BYTE.BIT");
            let at = place(at, bytes);
            bytes[at] ^= 1 << number(bit);
        }
        "hash" => {
            bytes.truncate(bytes.len() - 32);
            bytes.extend_from_slice(blake3::hash(bytes).as_bytes());
        }
        "wrap" => {
            let mut field = hex(argument());
            put_varint(bytes.len(), &mut field);
            bytes.splice(..0, field);
        }
        "frame" => {
            let count = u32::try_from(bytes.len()).expect("inputs are small");
            bytes.splice(..0, count.to_be_bytes());
        }
        _ => panic!("unknown word {word}"),
    }
}

/// An offset; a negative one counts from the end.
fn place(text: &str, bytes: &[u8]) -> usize {
    match text.strip_prefix('-') {
        Some(back) => bytes.len() - number(back),
        None => number(text),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number is decimal")
}

fn hex(text: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits come in pairs");
    (0..text.len()).step_by(2).map(pair).collect()
}

/// A protobuf varint.
fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: usize) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit a byte")
}
