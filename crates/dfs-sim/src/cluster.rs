//! A cluster of real nodes on simulated machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dfs_core::id::VaultId;
use dfs_env::{Env, Task};
use dfs_hostile::adversary::{Adversary, Shared};
use dfs_hostile::attacks::harm;
use dfs_hostile::member::Member;
use dfs_server::health::{Health, Level};
use dfs_server::{
    CAP, Cadence, Client, Config, Grace, PeerRole, PeerState, PeerView, Server, StartServerError,
    VaultConfig,
};
use dfs_store::keyfile::{self, KeyKind};
use dfs_store::vault::keys::{ClusterKey, VaultKey};
use ed25519_dalek::SigningKey;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::disk::CrashPolicy;
use crate::fs::SimDisk;
use crate::machine::{Process, WallClock};
use crate::net::{Host, SimNet, peer_addr};
use crate::options::Options;
use crate::rng::Rng;
use crate::trace::Trace;

/// The machines, and what runs on them.
pub struct Cluster {
    /// The network.
    pub net: SimNet,
    /// What happened.
    pub trace: Trace,
    machines: Vec<Machine>,
    seed: u64,
    /// Blobs that nodes found bad on disks that nothing was done to.
    bad_blobs: u64,
    /// Whether every node knows the first, and not the one before it.
    star: bool,
    /// How many zones they are spread over.
    zones: usize,
    /// How long a member is away before its share is given to others.
    out_after: Duration,
    packed_max: usize,
    /// How long what nobody needs is kept.
    grace: Grace,
    /// What the hostile machine does, if there is one: the last.
    hostile: Option<Arc<Shared>>,
}

struct Machine {
    disk: SimDisk,
    clock: Arc<WallClock>,
    /// Whether its node has the vault's key.
    vault: bool,
    boots: u64,
    /// Whether something was done to its disk that may make a blob bad.
    damaged: bool,
    /// Whether the cluster may count on it.
    service: Service,
    /// How often its disk was replaced.
    disks: u64,
    running: Option<Running>,
}

/// What a machine is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Serving,
    /// Its node was asked to leave.
    Draining,
    /// It was taken away.
    Gone,
}

struct Running {
    server: Server,
    process: Arc<Process>,
    /// What a hostile one does of its own accord.
    _harm: Option<Task<()>>,
    /// Cancelled when the node is gone: whoever waits for an answer of it need not.
    gone: CancellationToken,
}

/// A running node, as a client has it.
#[derive(Clone)]
pub struct Handle {
    /// The face.
    pub client: Client,
    /// Cancelled when the node is gone.
    pub gone: CancellationToken,
}

impl Cluster {
    /// Machines with empty disks.
    pub fn new(options: &Options, net: SimNet, trace: Trace) -> Self {
        let Options { seed, machines, keyless, grows, zones, .. } = *options;
        let rng = Rng::new(seed).fork(1);
        let machine = |host: Host| Machine {
            disk: SimDisk::new(host as u64, rng.fork(host as u64), trace.clone()),
            clock: Arc::default(),
            vault: host + keyless < machines,
            boots: 0,
            damaged: false,
            service: Service::Serving,
            disks: 0,
            running: None,
        };
        let machines = (0..machines).map(machine).collect();
        let grace = if options.collects { KEPT_SHORT } else { Grace::default() };
        let hostile = options.hostile_machine().map(|_| Shared::new(options.attacks.clone()));
        let out_after = if options.churns { OUT_SOON } else { dfs_server::OUT_AFTER };
        Self {
            net,
            trace: trace.clone(),
            machines,
            seed,
            bad_blobs: 0,
            star: grows || options.churns,
            zones,
            out_after,
            packed_max: options.packed_max,
            grace,
            hostile: hostile.map(Arc::new),
        }
    }

    /// The only admin of every cluster.
    pub fn admin() -> SigningKey {
        VaultKey::from_bytes(VAULT_KEY).admin()
    }

    /// The vault whose files every cluster is for.
    pub fn vault() -> VaultId {
        VaultKey::from_bytes(VAULT_KEY).vault()
    }

    /// How many machines are honest: the first.
    pub fn honest(&self) -> usize {
        self.len() - usize::from(self.hostile.is_some())
    }

    /// What the hostile machine does, if there is one.
    pub fn hostile(&self) -> Option<&Arc<Shared>> {
        self.hostile.as_ref()
    }

    /// How many machines there are.
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// The node of any machine, if that one runs and has the vault's key.
    pub fn any_with_vault(&self, rng: &mut Rng) -> Option<Handle> {
        let host = rng.below(self.len());
        self.handle(host).filter(|_| self.has_vault(host))
    }

    /// A machine's disk.
    pub fn disk(&self, host: Host) -> &SimDisk {
        &self.machines[host].disk
    }

    /// A machine's wall clock.
    pub fn clock(&self, host: Host) -> &WallClock {
        &self.machines[host].clock
    }

    /// Whether a machine's node has the vault's key.
    pub fn has_vault(&self, host: Host) -> bool {
        self.machines[host].vault
    }

    /// Whether a node runs on the machine.
    pub fn is_running(&self, host: Host) -> bool {
        self.machines[host].running.is_some()
    }

    /// The node on a machine, if one runs.
    pub fn handle(&self, host: Host) -> Option<Handle> {
        let running = self.machines[host].running.as_ref()?;
        Some(Handle { client: running.server.client(), gone: running.gone.clone() })
    }

    /// Whether the node's store refuses writes after a disk error: it must be started anew.
    pub fn has_failed(&self, host: Host) -> bool {
        let running = self.machines[host].running.as_ref();
        running.is_some_and(|running| running.server.client().has_failed())
    }

    /// The machines that the cluster counts on.
    pub fn serving(&self) -> Vec<Host> {
        let serves = |host: &Host| self.machines[*host].service == Service::Serving;
        (0..self.len()).filter(serves).collect()
    }

    /// The id of the node that runs on a machine.
    pub fn id(&self, host: Host) -> Option<String> {
        let peers = self.handle(host)?.client.peers();
        peers.into_iter().find(|peer| peer.is_self).map(|peer| peer.id)
    }

    /// Notes that a machine's node was asked to leave.
    pub fn note_draining(&mut self, host: Host) {
        self.machines[host].service = Service::Draining;
    }

    /// Takes a machine away for good.
    pub async fn take_away(&mut self, host: Host) {
        self.kill(host, CrashPolicy::KeepAll, false).await;
        self.machines[host].service = Service::Gone;
    }

    /// Puts an empty disk into a machine that does not run.
    pub fn wipe(&mut self, host: Host) {
        let machine = &mut self.machines[host];
        machine.disks += 1;
        let rng = Rng::new(self.seed).fork(1000 * machine.disks + host as u64);
        machine.disk = SimDisk::new(host as u64, rng, self.trace.clone());
        machine.damaged = false;
    }

    /// Notes that a machine's disk may have bad blobs from now on.
    pub fn note_damage(&mut self, host: Host) {
        self.machines[host].damaged = true;
    }

    /// Whether something was done to a machine's disk that may make a blob bad.
    pub fn is_damaged(&self, host: Host) -> bool {
        self.machines[host].damaged
    }

    /// Blobs found bad on disks that nothing was done to: the store said it had what it had not.
    pub fn bad_blobs(&self) -> u64 {
        self.bad_blobs
    }

    /// Blobs that the nodes that run now have found bad so far.
    pub fn found_bad(&self) -> u64 {
        let handles = (0..self.len()).filter_map(|host| self.handle(host));
        handles.map(|handle| handle.client.corrupt_blobs()).sum()
    }

    /// Tasks of the node on a machine.
    pub fn task_count(&self, host: Host) -> usize {
        self.machines[host].running.as_ref().map_or(0, |running| running.process.task_count())
    }

    /// Starts the node of a machine.
    ///
    /// # Errors
    /// What the node says when it does not come up.
    ///
    /// # Panics
    /// Never: the addresses of machines parse.
    pub async fn start(&mut self, host: Host) -> Result<(), StartServerError> {
        let is_last = host + 1 == self.machines.len();
        let machine = &mut self.machines[host];
        if machine.service == Service::Gone {
            return Ok(());
        }
        machine.boots += 1;
        self.trace.event("start", &[host as u64, machine.boots]);
        self.net.set_paused(host, false);
        self.net.revive(host);
        let fs = machine.disk.boot();
        let process =
            Arc::new(Process::new(host, self.net.clone(), machine.clock.clone(), fs.clone()));
        let seed = self.seed ^ ((host as u64 + 1) << 32) ^ (machine.boots << 48);
        let env = Env::simulated(seed, fs, self.net.host(host), process.clone());
        let config = Config {
            data_dir: PathBuf::from("/data"),
            listen: peer_addr(host),
            init: false,
            bootstrap: match host {
                0 if machine.disks == 0 => Vec::new(),
                0 => vec![peer_addr(1).to_string().parse().expect("an address")],
                // Each knows only the one before it, or all the first.
                _ => {
                    let known = if self.star { 0 } else { host - 1 };
                    vec![peer_addr(known).to_string().parse().expect("an address")]
                }
            },
            cluster_key: ClusterKey::from_bytes([1; 32]),
            invite: None,
            founds: true,
            new_node: true,
            vault: machine.vault.then(|| VaultConfig { key: VaultKey::from_bytes(VAULT_KEY) }),
            zone: format!("zone-{}", host % self.zones),
            capacity: None,
            packed_max: self.packed_max,
            out_after: self.out_after,
            build: "sim".to_owned(),
            grace: self.grace,
            cadence: CADENCE,
        };
        let hostile = self.hostile.clone().filter(|_| is_last);
        let (at, shared) = (env.clone(), hostile.clone());
        let wrap = move |honest| match shared {
            None => honest,
            Some(shared) => Arc::new(Adversary::new(at, honest, shared)),
        };
        let started = Server::start_wrapped(env.clone(), config, wrap);
        match started.await {
            Ok(server) => {
                let gone = CancellationToken::new();
                let harm = hostile.map(|shared| does_harm(env, &server, shared));
                machine.running = Some(Running { server, process, _harm: harm, gone });
                Ok(())
            }
            Err(error) => {
                process.kill();
                Err(error)
            }
        }
    }

    /// Ends the node of a machine without warning. `silent`: its peers are told nothing.
    pub async fn kill(&mut self, host: Host, policy: CrashPolicy, silent: bool) {
        let Some(running) = self.machines[host].running.take() else { return };
        self.trace.event("kill", &[host as u64]);
        if !self.machines[host].damaged {
            self.bad_blobs += running.server.client().corrupt_blobs();
        }
        running.gone.cancel();
        running.process.kill();
        self.net.kill(host, silent);
        drop(running.server);
        // Let the runtime drop the tasks that were ended.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.machines[host].disk.crash(policy);
    }

    /// Asks the node of a machine to stop, and waits at most `patience`; then it is killed. Says
    /// whether it stopped by itself.
    pub async fn stop(&mut self, host: Host, patience: Duration) -> bool {
        let Some(running) = self.machines[host].running.as_ref() else { return true };
        self.trace.event("stop", &[host as u64]);
        // A process that is paused hears nothing.
        self.net.set_paused(host, false);
        running.gone.cancel();
        let stopped = timeout(patience, running.server.shutdown()).await.is_ok();
        self.kill(host, CrashPolicy::KeepAll, false).await;
        stopped
    }

    /// How the cluster is, as one node says.
    pub async fn health(&self, host: Host) -> Option<Health> {
        let handle = self.handle(host)?;
        timeout(ASK_MAX, handle.client.health()).await.ok()?.ok()
    }

    /// Vouches for nodes that only store for others, as whoever invited them would.
    pub async fn admit_waiting(&self) {
        let waits = |peer: &PeerView| {
            peer.role == Some(PeerRole::Unvouched) && peer.state == PeerState::Joining
        };
        for handle in (0..self.len()).filter(|h| self.has_vault(*h)).filter_map(|h| self.handle(h))
        {
            for peer in handle.client.peers().into_iter().filter(waits) {
                if let Ok(Ok(_)) = timeout(ASK_MAX, handle.client.admit(&peer.id, CAP)).await {
                    return;
                }
            }
        }
    }

    /// Waits until each of `hosts` says that all is well with `nodes` members; gives the last word
    /// of whoever does not.
    ///
    /// # Errors
    /// What the first unhappy node said, after `limit`.
    pub async fn settled(
        &self,
        hosts: &[Host],
        nodes: usize,
        limit: Duration,
    ) -> Result<(), String> {
        let end = Instant::now() + limit;
        for host in hosts {
            loop {
                self.admit_waiting().await;
                let health = self.health(*host).await;
                let well =
                    health.as_ref().is_some_and(|h| h.nodes == nodes && h.health == Level::Ok);
                if well {
                    break;
                }
                if Instant::now() >= end {
                    for host in 0..self.len() {
                        let health = self.health(host).await;
                        self.trace.say(|| format!("node {host} says {health:?}"));
                    }
                    return Err(format!("node {host}: {health:?}"));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

/// Has a node ask of others what a hostile one asks.
fn does_harm(env: Env, server: &Server, shared: Arc<Shared>) -> Task<()> {
    let key = keyfile::read(env.fs(), Path::new("/data/node.key"), KeyKind::Node);
    let key = key.expect("a node that started has a key");
    let member = Member::of(env.clone(), server.network(), &key, shared.seen.clone());
    env.spawn("hostile", async move { harm(&member, &shared).await })
}

const VAULT_KEY: [u8; 32] = [2; 32];
/// How long a member is away before its share is given to others, where machines come and go.
const OUT_SOON: Duration = Duration::from_secs(15);
/// How long what nobody needs is kept, where that is looked at. Two looks are further apart than
/// twice the longest operation.
const KEPT_SHORT: Grace = Grace {
    hold: Duration::from_secs(180),
    collect_after: Duration::from_secs(60),
    purge_after: Duration::from_secs(60),
    history: Duration::from_secs(60),
    audit_every: Duration::from_secs(250),
    claim_every: Duration::from_secs(500),
};
/// How often members that only store are challenged: often enough that every fault meets it.
const CADENCE: Cadence = Cadence {
    random_every: Duration::from_secs(20),
    cover_within: Duration::from_secs(400),
    answer_within: Duration::from_secs(10),
    silent_again: Duration::from_secs(20),
};
/// How long an answer about health may take before it is asked again.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How often health is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
