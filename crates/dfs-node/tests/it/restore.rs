//! Every gateway is gone: the 24 words bring the files back, and command of the cluster.

use std::process::Stdio;

use crate::{Home, check};

#[test]
fn words_on_an_empty_machine_bring_back_files_and_command() {
    let (home, one, two) = (Home::new(), Home::new(), Home::new());
    let founder = home.start("data", &[]);
    let words = home.dfs(&founder, &["key", "export"], b"").stdout;
    let invite = || {
        let made = home.dfs(&founder, &["invite"], b"").stdout;
        String::from_utf8(made).unwrap().trim().to_owned()
    };
    let first = one.start("data", &["--join", &invite()]);
    let second = two.start("data", &["--join", &invite()]);
    let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    home.wait(&founder, |status| status["nodes"] == 3 && status["health"] == "ok");
    check(&home.dfs(&founder, &["put", "-", "d/large"], &large), 0, "stored");
    check(&home.dfs(&founder, &["put", "-", "small"], b"small"), 0, "stored");
    home.wait(&founder, |status| status["health"] == "ok");
    // The machine burns with all that was on it.
    drop(founder);
    drop(home);

    let heir = Home::new();
    let import = |home: &Home, text: &[u8]| {
        let nobody = "127.0.0.1:1";
        let mut dfs = home.client(nobody, &["key", "import"]);
        let path = home.path("words");
        std::fs::write(&path, text).unwrap();
        dfs.stdin(std::fs::File::open(path).unwrap()).output().unwrap()
    };
    check(&import(&heir, &words), 0, "");
    let peers = format!("{},{}", first.listen, second.listen);
    let node = heir.start("data", &["--bootstrap", &peers]);
    let command = "'dfs layout recover ";
    let message = |status: &serde_json::Value| status["message"].as_str().unwrap().to_owned();
    heir.wait(&node, |status| message(status).contains(command));
    let status = heir.dfs(&node, &["status", "--json"], b"").stdout;
    let told = message(&serde_json::from_slice(&status).unwrap());
    let lost = told.split(command).nth(1).unwrap().split('\'').next().unwrap();
    let sure = ["layout", "recover", "--confirm", "they are gone for ever", lost];
    check(&heir.dfs(&node, &sure, b""), 0, "decided");
    heir.wait(&node, |status| status["nodes"] == 3 && status["health"] == "ok");
    assert_eq!(heir.dfs(&node, &["cat", "d/large"], b"").stdout, large);
    assert_eq!(heir.dfs(&node, &["cat", "small"], b"").stdout, b"small");
    check(&heir.dfs(&node, &["put", "-", "small"], b"new"), 0, "stored");
    // It governs: another machine comes in, and one goes.
    let third = Home::new();
    let line = heir.dfs(&node, &["invite"], b"").stdout;
    let line = String::from_utf8(line).unwrap();
    let third_node = third.start("data", &["--join", line.trim()]);
    heir.wait(&node, |status| status["nodes"] == 4 && status["health"] == "ok");
    check(&heir.dfs(&node, &["drain", &first.listen], b""), 0, "leaves");
    heir.wait(&node, |status| status["nodes"] == 3 && status["health"] == "ok");
    drop((second, third_node));
    // Someone with other words has no part in it.
    let thief = Home::new();
    check(&import(&thief, ("abandon ".repeat(23) + "art").as_bytes()), 0, "");
    let mut refused = thief.node("data", &["--bootstrap", &node.listen]);
    check(&refused.stdout(Stdio::null()).output().unwrap(), 12, "no peer gave it");
    assert!(!thief.path("config/cluster.key").exists());
}
