//! What stands between the nodes: on each ordered pair of them, a door that can be shut.
//!
//! Every node has a loopback of its own and knows the others by their real addresses; behind
//! those addresses, in its loopback, listen our proxies. So each connection shows who dialled
//! whom, and each direction of it can be cut, slowed or reset by itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::netns::Namespace;
use super::nodes::Cluster;
use super::proxy::{Link, Way, carry, reset};

/// All proxies of a cluster; they end when it is dropped.
pub(crate) struct Mesh {
    shared: Arc<Shared>,
    doors: Vec<JoinHandle<()>>,
}

struct Shared {
    namespaces: Arc<Vec<Namespace>>,
    base_port: u16,
    /// The link of each ordered pair, row by row.
    links: Vec<Link>,
    ended: AtomicBool,
}

impl Mesh {
    /// Opens a door for each ordered pair. The nodes must live in these namespaces, each on its
    /// own port.
    pub(crate) fn new(namespaces: Arc<Vec<Namespace>>, base_port: u16) -> Result<Self> {
        let nodes = namespaces.len();
        let links = (0..nodes * nodes).map(|_| Link::default()).collect();
        let shared = Shared { namespaces, base_port, links, ended: AtomicBool::new(false) };
        let mut mesh = Self { shared: Arc::new(shared), doors: Vec::new() };
        for (from, to) in mesh.pairs() {
            let addr = mesh.shared.addr(to)?;
            let bound = mesh.shared.namespaces[from].within(|| TcpListener::bind(addr))?;
            let listener = bound.with_context(|| format!("cannot listen on {addr}"))?;
            listener.set_nonblocking(true)?;
            let shared = mesh.shared.clone();
            mesh.doors.push(std::thread::spawn(move || shared.keep_door(from, to, &listener)));
        }
        Ok(mesh)
    }

    /// Every ordered pair of two nodes.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = self.shared.namespaces.len();
        let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to).collect()
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> &Link {
        self.shared.link(from, to)
    }

    /// Opens every link and takes every delay away.
    pub(crate) fn heal(&self) {
        for link in &self.shared.links {
            link.heal();
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for door in self.doors.drain(..) {
            let _ = door.join();
        }
    }
}

impl Shared {
    fn addr(&self, node: usize) -> Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, self.base_port + u16::try_from(node)?).into())
    }

    fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.namespaces.len() + to]
    }

    /// Takes what `from` dials in the belief that it is `to`. Connections end with the door.
    fn keep_door(&self, from: usize, to: usize, listener: &TcpListener) {
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            while !self.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) if open.load(Ordering::Relaxed) < CONNECTIONS_MAX => {
                        open.fetch_add(1, Ordering::Relaxed);
                        let open = &open;
                        scope.spawn(move || {
                            self.serve(from, to, client);
                            open.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    Ok((client, _)) => reset(client),
                    Err(_) => std::thread::sleep(ACCEPT_EVERY),
                }
            }
        });
    }

    fn serve(&self, from: usize, to: usize, client: TcpStream) {
        let there = self.link(from, to);
        let way = Way::new(there, self.link(to, from), &self.ended);
        if there.is_refusing() || !way.wait_open(there) {
            return reset(client);
        }
        match self.dial(to) {
            Ok(server) => carry(client, server, &way),
            Err(_) => reset(client),
        }
    }

    fn dial(&self, to: usize) -> io::Result<TcpStream> {
        let addr = self.addr(to).map_err(io::Error::other)?;
        let connect = || TcpStream::connect_timeout(&addr, CONNECT_MAX);
        self.namespaces[to].within(connect).map_err(io::Error::other)?
    }
}

/// A network for each node and proxies between them. Needs root, `unshare` and `ip`.
pub(crate) fn make_mesh(cluster: &mut Cluster, nodes: usize) -> Result<Mesh> {
    let namespaces = (0..nodes).map(|_| Namespace::new()).collect::<Result<_>>()?;
    let namespaces: Arc<Vec<Namespace>> = Arc::new(namespaces);
    let mesh = Mesh::new(namespaces.clone(), cluster.port(0)?)?;
    cluster.use_namespaces(namespaces);
    Ok(mesh)
}

/// Far above what a node opens to one peer; a node that dials without end meets it.
const CONNECTIONS_MAX: usize = 128;
/// Loopback answers at once or is full.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// What a door may add to a connection's first packet.
const ACCEPT_EVERY: Duration = Duration::from_millis(5);
