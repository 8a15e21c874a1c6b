//! Connections that say nothing keep nobody out.

use std::net::SocketAddr;
use std::time::Duration;

use dfs_env::Env;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::{LIMIT, start};

/// Opens a connection from a local address of its own.
async fn silent(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[cfg(target_os = "linux")] // All of 127.0.0.0/8 is local there.
#[tokio::test]
async fn a_node_gets_in_while_others_open_connections_and_say_nothing() {
    let env = Env::real();
    let mut inside = start(env.clone(), 0, &[], 1).await;
    let to = inside.network.listen_addr();
    let mut silent_ones = Vec::new();
    for at in 0..256u16 {
        let [_, low] = (at / 32).to_be_bytes();
        silent_ones.push(silent([127, 0, 1, low], to).await);
    }
    let joiner = start(env, 0, &[to.port()], 1).await;
    let got_in = inside.connected.wait_for(|nodes| !nodes.is_empty());
    let got_in = tokio::time::timeout(BEFORE_THE_SILENT_END, got_in).await;
    drop(got_in.expect("it did not get in").unwrap());
    let mut end = Vec::new();
    let closed = silent_ones[0].read_to_end(&mut end);
    // Closed or reset, but ended.
    let _ = tokio::time::timeout(LIMIT, closed).await.expect("the oldest is still open");
    joiner.network.shutdown().await;
    inside.network.shutdown().await;
}

/// A connection that says nothing ends by itself after five seconds.
const BEFORE_THE_SILENT_END: Duration = Duration::from_secs(4);
