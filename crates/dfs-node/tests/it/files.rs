//! Local files: what `get` leaves and replaces, and what `put -r` takes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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

/// The last object of `put -r --json`.
fn summary(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a summary")).unwrap()
}

#[test]
fn what_the_node_and_the_client_keep_is_not_stored_again() {
    let home = Home::new();
    let node = home.start("data", &[]);
    fs::write(home.path("doc"), "mine").unwrap();
    let words = home.dfs(&node, &["key", "export"], b"").stdout;
    fs::write(home.path("words.txt"), words).unwrap();
    let top = home.path("");
    let top = top.to_str().unwrap();
    for _ in 0..2 {
        let put = home.dfs(&node, &["put", "-r", top, "home"], b"");
        check(&put, 0, "data: the data directory of a node");
        check(&put, 0, "vault.key: a key of dfs");
        check(&put, 0, "cluster.key: a key of dfs");
        check(&put, 0, "words.txt: the words of a vault key");
        check(&put, 0, "files under \"home\", left out 4\n");
        let stored = names(&home, &node, "home");
        assert!(stored.contains("home/doc\n"), "{stored}");
        for kept in ["key", "token", "blob", "data/", "words"] {
            assert!(!stored.contains(kept), "{kept}: {stored}");
        }
    }
    let data = home.path("data");
    let inside = home.dfs(&node, &["put", "-r", data.to_str().unwrap(), "x"], b"");
    check(&inside, 1, "is the data directory of a node");
}

#[test]
fn what_is_skipped_is_counted_and_what_is_excluded_is_not_missed() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let dir = home.path("src");
    fs::create_dir_all(dir.join("target/debug")).unwrap();
    for name in ["a.c", "a.o", "target/debug/a"] {
        fs::write(dir.join(name), "content").unwrap();
    }
    for socket in ["l1", "l2", "l3"] {
        std::os::unix::net::UnixListener::bind(dir.join(socket)).unwrap();
    }
    let src = dir.to_str().unwrap();
    let all = home.dfs(&node, &["put", "-r", src, "all"], b"");
    check(&all, 3, "l1: a socket\n");
    check(&all, 3, "stored 3 files under \"all\", skipped 3\n");
    let all = home.dfs(&node, &["--json", "put", "-r", src, "all"], b"");
    let expected = |stored, bytes, skipped, excluded| {
        serde_json::json!({ "summary": {
            "stored": stored, "bytes": bytes, "failed": 0,
            "skipped": skipped, "left_out": 0, "excluded": excluded,
        }})
    };
    check(&all, 3, "3 special files were skipped");
    assert_eq!(summary(&all), expected(3, 21, 3, 0));
    fs::write(home.path("patterns"), "# those of the compiler\n\n*.o\n").unwrap();
    let patterns = home.path("patterns");
    let exclude = ["--exclude", "/target/", "--exclude-from", patterns.to_str().unwrap()];
    let args = ["--json", "put", "-r", src, "some", "--exclude", "l[1-3]"];
    let some = home.dfs(&node, &[&args[..], &exclude].concat(), b"");
    check(&some, 0, "");
    assert_eq!(summary(&some), expected(1, 7, 0, 5));
    assert_eq!(names(&home, &node, "some"), "some/a.c\n");
    let nothing = home.dfs(&node, &["--json", "put", "-r", src, "no", "--exclude", "*"], b"");
    check(&nothing, 0, "");
    assert_eq!(summary(&nothing), expected(0, 0, 0, 6));
    check(&home.dfs(&node, &["put", "-r", src, "no", "--exclude", "[a"], b""), 2, "does not end");
    check(&home.dfs(&node, &["put", "doc", "no", "--exclude", "a"], b""), 2, "--recursive");
}

#[test]
fn names_may_hold_anything_but_nul_and_are_exact_in_a_pipe() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let odd = ["Icon\r", "\ttab", "two\nlines", "\x1b[31mred", "del\x7f", "c1\u{9b}", "\u{202e}x"];
    let src = home.path("src");
    fs::create_dir_all(src.join("a\nb")).unwrap();
    for name in odd {
        fs::write(src.join("a\nb").join(name), name).unwrap();
        let path = format!("put/{name}");
        let put = home.dfs(&node, &["put", "-", &path], name.as_bytes());
        check(&put, 0, &format!("stored {path} ("));
        let stat = home.dfs(&node, &["--json", "stat", &path], b"").stdout;
        let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
        assert_eq!(stat["path"], path);
        assert_eq!(home.dfs(&node, &["cat", &path], b"").stdout, name.as_bytes());
    }
    check(&home.dfs(&node, &["put", "-r", src.to_str().unwrap(), "tree"], b""), 0, "7 files");
    let out = home.path("out");
    check(&home.dfs(&node, &["get", "-r", "tree", out.to_str().unwrap()], b""), 0, "7 files");
    for name in odd {
        assert_eq!(fs::read(out.join("a\nb").join(name)).unwrap(), name.as_bytes());
    }
    let mut sorted = odd.map(|name| format!("tree/a\nb/{name}\n"));
    sorted.sort();
    assert_eq!(names(&home, &node, "tree"), sorted.concat());
    check(&home.dfs(&node, &["rm", "put/two\nlines"], b""), 0, "");
    check(&home.dfs(&node, &["cat", "put/two\nlines"], b""), 4, "does not exist");
}

#[test]
fn a_local_name_need_not_be_text_when_the_remote_one_is() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    let node = home.start("data", &[]);
    let local = home.path("").join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::write(&local, "content").unwrap();
    let run = |args: &[&str]| home.client(&node.api, args).arg(&local).output().unwrap();
    let put = home.client(&node.api, &["put"]).arg(&local).arg("f").output().unwrap();
    check(&put, 0, "stored f");
    check(&run(&["put"]), 2, "no name to use");
    fs::remove_file(&local).unwrap();
    check(&run(&["get", "f"]), 0, "fetched f");
    assert_eq!(fs::read(&local).unwrap(), b"content");
}

#[test]
fn what_a_command_writes_is_stored_when_it_ends_well() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let put = |script: &str| {
        home.dfs(&node, &["put", "--from-command", "dump", "--", "sh", "-c", script], b"input")
    };
    check(&put("echo half; exit 3"), 1, "nothing was stored: sh ended with exit code 3");
    check(&put("echo half; kill -9 $$"), 1, "nothing was stored: sh was ended by signal 9");
    check(&put("head -c 5000000 /dev/zero; false"), 1, "ended with exit code 1");
    check(&home.dfs(&node, &["stat", "dump"], b""), 4, "does not exist");
    check(&put("cat; exec >&-; exit 0"), 0, "stored dump (5 B)");
    assert_eq!(home.dfs(&node, &["cat", "dump"], b"").stdout, b"input");
    // What failed leaves what was there.
    check(&put("echo half; exit 1"), 1, "nothing was stored");
    assert_eq!(home.dfs(&node, &["cat", "dump"], b"").stdout, b"input");
    check(&put("true"), 0, "note: what the command wrote was empty");
    let missing = home.dfs(&node, &["put", "--from-command", "x", "--", "/no/such/program"], b"");
    check(&missing, 1, "cannot run /no/such/program: ");
    check(&home.dfs(&node, &["put", "--from-command", "x"], b""), 2, "DST");
    // A refusal is told as such, and the command does not run on.
    let args = ["put", "--if-absent", "--from-command", "dump", "--", "sh", "-c", "exec cat"];
    check(&home.dfs(&node, &args, b""), 7, "");
    check(&home.dfs(&node, &["put", "-", "x"], b""), 0, "note: stdin was empty");
    // After two dashes a file may begin with one.
    fs::write(home.path("-f"), "dash").unwrap();
    check(&shell(&home, &node, "\"$@\" put -- -f"), 0, "stored -f (4 B)");
}

#[test]
fn a_command_ends_with_the_put_that_started_it() {
    use std::io::Read;
    let home = Home::new();
    let node = home.start("data", &[]);
    // On a terminal what the command starts is not ours to end.
    let has_terminal = fs::File::open("/dev/tty").is_ok();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        // Whatever runs of it holds the pipe open.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let wait = if has_terminal { "exec sleep 1000" } else { "sleep 1000 & wait" };
        let script = format!("echo started >&2; {wait}");
        let args = ["put", "--from-command", "dump", "--", "sh", "-c", &script];
        let mut command = home.client(&node.api, &args);
        let mut child = command.stderr(writer).spawn().unwrap();
        drop(command);
        let mut started = [0; 8];
        reader.read_exact(&mut started).unwrap();
        crate::signal(&child, signal);
        child.wait().unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
    }
    check(&home.dfs(&node, &["stat", "dump"], b""), 4, "does not exist");
}

#[test]
fn a_file_of_holes_comes_back_as_one() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let home = Home::new();
    let node = home.start("data", &[]);
    let image = fs::File::create(home.path("image")).unwrap();
    let bytes = (12 << 20) + 5;
    image.set_len(bytes).unwrap();
    image.write_all_at(b"in the midst", 5 << 20).unwrap();
    let (src, dst) = (home.path("image"), home.path("out"));
    check(&home.dfs(&node, &["put", src.to_str().unwrap(), "image"], b""), 0, "stored");
    check(&home.dfs(&node, &["get", "image", dst.to_str().unwrap()], b""), 0, "fetched");
    assert!(fs::read(&src).unwrap() == fs::read(&dst).unwrap());
    let (before, after) = (fs::metadata(&src).unwrap(), fs::metadata(&dst).unwrap());
    assert_eq!(after.len(), bytes);
    // 64 KiB for the words, and one block at the end.
    assert!(after.blocks() * 512 <= before.blocks() * 512 + 80 * 1024, "{}", after.blocks());
}

#[test]
fn few_descriptors_are_enough_for_many_files() {
    let home = Home::new();
    let node = home.start("data", &[]);
    fs::create_dir(home.path("src")).unwrap();
    for name in 0..60 {
        fs::write(home.path(&format!("src/{name}")), vec![7; 20_000]).unwrap();
    }
    let put = shell(&home, &node, "ulimit -n 20; \"$@\" put -r src dst");
    check(&put, 0, "stored 60 files");
    let get = shell(&home, &node, "ulimit -n 20; \"$@\" get -r dst out");
    check(&get, 0, "fetched 60 files");
    assert_eq!(fs::read_dir(home.path("out")).unwrap().count(), 60);
}

#[test]
fn a_name_that_the_file_system_does_not_take_says_what_to_do() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let long = "x".repeat(300);
    for path in [format!("d/{long}"), format!("d/{long}d/a"), "d/a".to_owned()] {
        check(&home.dfs(&node, &["put", "-", &path], b"content"), 0, "stored");
    }
    let get = shell(&home, &node, "\"$@\" get -r d out");
    check(&get, 3, "2 of 3 files failed");
    let hints = String::from_utf8_lossy(&get.stderr).matches("'dfs get SRC DST'").count();
    // The directory, and each of the files.
    assert_eq!(hints, 3);
    check(&shell(&home, &node, &format!("\"$@\" get d/{long}")), 1, "'dfs get SRC DST'");
    check(&shell(&home, &node, &format!("\"$@\" get d/{long} short")), 0, "to short");
}

/// Everything below a directory: its mode, its time, and what it is.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(dir).unwrap().display().to_string();
        let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        let what = if meta.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "a directory".to_owned()
        } else if meta.is_symlink() {
            format!("to {}", fs::read_link(&path).unwrap().display())
        } else {
            format!("{:?}", fs::read(&path).unwrap())
        };
        // Of a link nobody asks.
        let mode = if meta.is_symlink() { 0 } else { meta.mode() };
        found.push(format!("{name} {mode:o} {time} {what}"));
    }
    found.sort();
    found
}

#[test]
fn a_tree_comes_back_with_its_modes_times_links_and_empty_directories() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let src = home.path("src");
    fs::create_dir_all(src.join("sub/empty")).unwrap();
    for (name, mode) in
        [("secret", 0o600), ("tool", 0o755), ("sub/shared", 0o664), ("sub/ro", 0o444)]
    {
        fs::write(src.join(name), name).unwrap();
        set_mode(&src.join(name), mode);
    }
    for (link, says) in [("sub/up", "../tool"), ("to-sub", "sub"), ("dangling", "/no/such\nname")] {
        std::os::unix::fs::symlink(says, src.join(link)).unwrap();
    }
    let old = std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1_500_000_001);
    let set_time = |name: &str| fs::File::open(src.join(name)).unwrap().set_modified(old).unwrap();
    ["secret", "sub/ro", "sub/empty", "sub", ""].into_iter().for_each(set_time);
    set_mode(&src.join("sub/empty"), 0o700);
    set_mode(&src.join("sub"), 0o775);
    let [from, to] = ["src", "out"].map(|name| home.path(name).to_str().unwrap().to_owned());
    check(&home.dfs(&node, &["put", "-r", &from, "d"], b""), 0, "stored 7 files under \"d\"\n");
    check(&home.dfs(&node, &["get", "-r", "d", &to], b""), 0, "fetched 7 files to");
    assert_eq!(tree(&home.path("out")), tree(&src));
    // Once more over what is there, whose top keeps its own, and from what was moved.
    check(&home.dfs(&node, &["get", "-r", "d", &to], b""), 0, "fetched 7 files to");
    assert_eq!(tree(&home.path("out"))[1..], tree(&src)[1..]);
    check(&home.dfs(&node, &["mv", "d", "e"], b""), 0, "moved");
    let moved = home.path("moved");
    check(&home.dfs(&node, &["get", "-r", "e", moved.to_str().unwrap()], b""), 0, "fetched 7");
    assert_eq!(tree(&moved), tree(&src));
    // A link is named with what it says, which no terminal obeys.
    let listed = home.dfs(&node, &["ls", "-l", "e"], b"");
    check(&listed, 0, "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("e/to-sub -> sub\n"));
    check(&home.dfs(&node, &["get", "e/to-sub"], b""), 1, "\"e/to-sub\" is a symbolic link");
    check(&home.dfs(&node, &["ln", "-s", "sub/ro", "e/new"], b""), 0, "");
    check(&home.dfs(&node, &["ln", "-s", "x", "e/new"], b""), 1, "exists");
    check(&home.dfs(&node, &["ln", "-sf", "x", "e/new"], b""), 0, "");
}

#[test]
fn nothing_is_written_through_a_link_that_was_fetched() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let outside = home.path("outside");
    fs::create_dir(&outside).unwrap();
    let says = outside.to_str().unwrap();
    check(&home.dfs(&node, &["ln", "-s", says, "d/l"], b""), 0, "");
    let out = home.path("out");
    let out = out.to_str().unwrap();
    check(&home.dfs(&node, &["get", "-r", "d", out], b""), 0, "fetched 1 files");
    // What is a directory now does not go where the link leads.
    check(&home.dfs(&node, &["rm", "d/l"], b""), 0, "");
    check(&home.dfs(&node, &["put", "-", "d/l/f"], b"x"), 0, "stored");
    let refused = home.dfs(&node, &["get", "-r", "d", out], b"");
    check(&refused, 1, "it is a link, which may lead out of the target");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn links_to_pipes_are_stored_and_what_is_no_directory_is_not_taken_for_one() {
    let home = Home::new();
    let node = home.start("data", &[]);
    let src = home.path("src");
    fs::create_dir_all(src.join("dir")).unwrap();
    check(&shell(&home, &node, "mkfifo pipe"), 0, "");
    std::os::unix::fs::symlink("../pipe", src.join("to-pipe")).unwrap();
    let src = src.to_str().unwrap();
    check(&home.dfs(&node, &["put", "-r", src, "d"], b""), 0, "stored 1 files");
    // Here a file is where a directory belongs.
    fs::create_dir(home.path("out")).unwrap();
    fs::write(home.path("out/dir"), "mine").unwrap();
    set_mode(&home.path("out/dir"), 0o600);
    set_mode(&home.path("out"), 0o750);
    let out = home.path("out");
    let refused = home.dfs(&node, &["get", "-r", "d", out.to_str().unwrap()], b"");
    check(&refused, 3, "it is no directory");
    assert_eq!((mode(&home.path("out/dir")), mode(&out)), (0o600, 0o750));
    assert_eq!(fs::read_link(out.join("to-pipe")).unwrap(), Path::new("../pipe"));
    check(&home.dfs(&node, &["rm", "-r", "d/to-pipe"], b""), 0, "");
}
