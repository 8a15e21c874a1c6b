//! Where the passphrase of the vault's key comes from: a file, systemd, or whoever sits at the
//! terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use zeroize::Zeroizing;

use crate::exit::{Code, Failure};

/// A passphrase that is asked for once it is needed, and once only; clones share it.
#[derive(Clone, Default)]
pub struct Unlock {
    file: Option<PathBuf>,
    /// Whether only whoever typed the command is asked, and not a terminal that it happens to have.
    for_service: bool,
    known: Arc<Mutex<Option<Zeroizing<String>>>>,
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlock").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Unlock {
    /// A passphrase in a file, which may be a pipe; else from the terminal.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, for_service: false, known: Arc::default() }
    }

    /// The same for a program that may run without anybody near: without a file, in the credential
    /// `dfs-passphrase` that systemd gives; and the terminal is asked only where stdin is one, and
    /// the program is in front of it.
    pub fn for_service(file: Option<PathBuf>) -> Self {
        Self { for_service: true, ..Self::new(file.or_else(credential)) }
    }

    /// Forgets what was asked for.
    pub fn forget(&self) {
        self.known.lock().take();
    }

    fn ask(&self, prompt: &str) -> Result<Zeroizing<String>, Failure> {
        let why = |why: &dyn std::fmt::Display| {
            let why = format!("a passphrase is needed, and nobody can be asked: {why}");
            Failure::new(Code::Key, why).hint("give --passphrase-file, or run this on a terminal")
        };
        if self.for_service && !is_in_front() {
            return Err(why(&"stdin is no terminal, or this runs in the background"));
        }
        ask(prompt).map_err(|error| why(&error))
    }

    /// Which file it is in, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The passphrase that opens what `path` holds.
    ///
    /// # Errors
    /// [`Code::Key`] when it cannot be had.
    pub fn passphrase(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        let mut known = self.known.lock();
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let found = match &self.file {
            Some(file) => read(file)?,
            None => self.ask(&format!("passphrase of {}: ", path.display()))?,
        };
        Ok(known.insert(found).clone())
    }

    /// A passphrase to close something with; whoever types it does so twice.
    ///
    /// # Errors
    /// [`Code::Key`] when it cannot be had, or is easily guessed.
    pub fn new_passphrase(&self) -> Result<Zeroizing<String>, Failure> {
        let new = match &self.file {
            Some(file) => read(file)?,
            None => self.ask("new passphrase: ")?,
        };
        if new.chars().count() < CHARS_MIN {
            let why = format!("a passphrase has {CHARS_MIN} characters or more");
            return Err(Failure::new(Code::Key, why).hint("six random words are easily kept"));
        }
        if self.file.is_none() && *self.ask("the same again: ")? != *new {
            return Err(Failure::new(Code::Key, "the two are not the same"));
        }
        Ok(new)
    }
}

/// Where systemd puts what `LoadCredential=dfs-passphrase:FILE` names.
fn credential() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    Some(dir.join(CREDENTIAL)).filter(|path| path.exists())
}

fn is_in_front() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|front| front == getpgrp())
}

fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    if let Ok(terminal) = File::open(TERMINAL)
        && let Ok(before) = tcgetattr(&terminal)
    {
        *BEFORE_ASKING.lock() = Some(before);
    }
    let asked = rpassword::prompt_password(prompt).map(Zeroizing::new);
    BEFORE_ASKING.lock().take();
    asked
}

/// Makes the terminal show again what is typed, where a program ends while it asks.
pub fn restore_terminal() {
    if let Some(before) = BEFORE_ASKING.lock().take()
        && let Ok(terminal) = File::open(TERMINAL)
    {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

/// How the terminal was before somebody was asked on it, while they are.
static BEFORE_ASKING: Mutex<Option<Termios>> = Mutex::new(None);
const TERMINAL: &str = "/dev/tty";

/// The first line of a file.
fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX + 1));
    let limit = BYTES_MAX as u64 + 1;
    let opened = File::open(file).and_then(|opened| opened.take(limit).read_to_string(&mut text));
    let bad = |why: &dyn std::fmt::Display| {
        Failure::new(Code::Key, format!("no passphrase can be read from {}: {why}", file.display()))
    };
    opened.map_err(|error| bad(&error))?;
    let line = text.split_once('\n').map_or(&**text, |(line, _)| line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.len() {
        0 => Err(bad(&"its first line is empty")),
        1..=BYTES_MAX => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(bad(&format!("its first line is longer than {BYTES_MAX} bytes"))),
    }
}

const CREDENTIAL: &str = "dfs-passphrase";
/// Longer than anybody types.
const BYTES_MAX: usize = 1024;
/// Of a passphrase that is chosen.
const CHARS_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &[u8], expected: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, content).unwrap();
        let unlock = Unlock::new(Some(file));
        let found = unlock.passphrase(Path::new("vault.key"));
        assert_eq!(found.ok().as_ref().map(|found| found.as_str()), expected);
    }

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        check(b"correct horse\n", Some("correct horse"));
        check(b"correct horse", Some("correct horse"));
        check("gr\u{fc}n und blau\r\nrest".as_bytes(), Some("gr\u{fc}n und blau"));
        check(b" spaces stay \n", Some(" spaces stay "));
        check(&[b'x'; BYTES_MAX], Some(&"x".repeat(BYTES_MAX)));
        for bad in [&b""[..], b"\n", b"\nsecond", b"\xff\n", &[b'x'; BYTES_MAX + 1]] {
            check(bad, None);
        }
    }

    #[test]
    fn it_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, "correct horse").unwrap();
        let unlock = Unlock::new(Some(file.clone()));
        let other = unlock.clone();
        unlock.passphrase(Path::new("k")).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(other.passphrase(Path::new("k")).unwrap().as_str(), "correct horse");
    }

    #[test]
    fn a_short_passphrase_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        for (text, is_taken) in [("seven77", false), ("eight888", true)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Unlock::new(Some(file.clone())).new_passphrase().is_ok(), is_taken);
        }
    }
}
