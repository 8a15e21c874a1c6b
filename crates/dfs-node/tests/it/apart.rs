//! Nodes that do not belong together.

use super::Home;

#[test]
fn a_node_with_another_cluster_key_says_what_to_do() {
    let inside = Home::new();
    let founder = inside.start("data", &[]);
    let outside = Home::new();
    // It has a cluster of its own, and with it a key.
    drop(outside.start("own", &[]));
    let node = outside.start("data", &["--bootstrap", &founder.listen]);
    outside.wait(&node, |status| {
        let message = status["message"].as_str().unwrap();
        message.contains("the cluster there has another key than this node; to join it, run")
            && message.contains("'dfs key import --cluster --replace' here")
    });
}
