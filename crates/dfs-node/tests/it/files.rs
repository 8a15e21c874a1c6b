//! Local files: what `get` leaves and replaces, and what `put -r` takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::{Home, Running, check, set_mode};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(home: &Home, node: &Running, dir: &str) -> String {
    String::from_utf8(home.dfs(node, &["ls", "-r", dir], b"").stdout).unwrap()
}

/// Runs a line of the shell with `dfs` as "$@".
fn shell(home: &Home, node: &Running, line: &str) -> Output {
    let client = home.client(&node.api, &[]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", line, "sh"]).arg(client.get_program()).args(client.get_args());
    home.clean(&mut command);
    command.current_dir(home.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().unwrap()
}

#[test]
fn what_an_ended_get_left_is_swept_and_never_stored() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "f"], b"content"), 0, "stored");
    fs::create_dir(home.path("out")).unwrap();
    let leftovers = ["x.dfs-2147483647", "dfs-get-00112233445566778899aabbccddeeff"];
    let write = || {
        for name in leftovers {
            fs::write(home.path(&format!("out/.{name}")), "partial").unwrap();
        }
    };
    write();
    let out = home.path("out").to_str().unwrap().to_owned();
    // A process with the id of an earlier one is not stopped by what that one left.
    let again = shell(&home, &node, "echo partial >out/.f.dfs-$$; exec \"$@\" get f out/f");
    check(&again, 0, "fetched f");
    assert_eq!(fs::read(home.path("out/f")).unwrap(), b"content");
    let left: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !leftovers.contains(&&name.to_str().unwrap()[1..])), "{left:?}");
    write();
    check(&home.dfs(&node, &["put", "-r", &out, "back"], b""), 0, "an incomplete file");
    assert_eq!(names(&home, &node, "back"), "back/f\n");
}

#[test]
fn a_fetched_file_is_never_more_open_than_what_it_replaces() {
    let home = Home::new();
    let node = home.start("data", &[]);
    check(&home.dfs(&node, &["put", "-", "d/f"], b"content"), 0, "stored");
    fs::create_dir(home.path("out")).unwrap();
    let out = home.path("out").to_str().unwrap().to_owned();
    let file = home.path("out/f");
    for (before, umask, after) in [
        (None, "022", 0o644),
        (None, "077", 0o600),
        (Some(0o600), "022", 0o600),
        (Some(0o640), "000", 0o640),
        (Some(0o6755), "022", 0o755),
    ] {
        for line in [format!("\"$@\" get d/f {out}/f"), format!("\"$@\" get -r d {out}")] {
            let _ = fs::remove_file(&file);
            if let Some(before) = before {
                fs::write(&file, "old").unwrap();
                set_mode(&file, before);
            }
            check(&shell(&home, &node, &format!("umask {umask}; {line}")), 0, "fetched");
            assert_eq!(fs::read(&file).unwrap(), b"content");
            assert_eq!(mode(&file), after, "{before:?} {umask} {line}");
        }
    }
}
