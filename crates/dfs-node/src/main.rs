//! `dfs-node`: runs one node until it is told to stop.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};
use dfs_core::address::Address;
use dfs_core::node::invite::Invite;
use dfs_env::Env;
use dfs_node::api::{self, Api};
use dfs_node::config::{Args, Command, ConfigCommand, NodeConfig};
use dfs_node::config_show;
use dfs_node::exit::{Code, Failure, chain, exit_code};
use dfs_node::join::has_keys;
use dfs_node::keyring::Vault;
use dfs_node::known_nodes::{self, KnownNode};
use dfs_node::run_record::{self, RunRecord};
use dfs_node::signals::EndSignals;
use dfs_node::{join, keyring, limits, supervisor, telemetry, unlock};
use dfs_p2p::StartError;
use dfs_server::{Config, Server, StartServerError, VaultConfig};
use dfs_store::OpenStoreError;
use dfs_store::disk::upgrade::{Upgraded, upgrade};
use dfs_store::vault::keys::ClusterKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let matches = Args::command().get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(Command::Config(command)) = args.command {
        return exit_code(about_config(command, args, &matches));
    }
    limits::set();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
    let result = match runtime {
        Err(error) => Err(failed("cannot start threads", &error)),
        Ok(runtime) => {
            let result = runtime.block_on(run(args));
            // Work that is left on the blocking pool has no reader any more and must not delay us.
            runtime.shutdown_background();
            result
        }
    };
    exit_code(result)
}

async fn run(args: Args) -> Result<(), Failure> {
    let command = args.command;
    let config = args.resolve()?;
    if command == Some(Command::Upgrade) {
        return run_upgrade(&config).await;
    }
    telemetry::start(&config.log, config.log_format)?;
    let mut signals =
        EndSignals::new().map_err(|error| failed("cannot watch for signals", &error))?;
    info!(data_dir = %config.data_dir.display(), "starting");
    let env = Env::real();
    let (listener, server) = tokio::select! {
        biased;
        // Nothing was acknowledged yet, so there is nothing to wait for.
        _ = signals.next() => {
            unlock::restore_terminal();
            info!("ended while starting");
            return Ok(());
        }
        started = start(&env, &config) => started?,
    };
    let result = serve(&env, &config, &server, listener, &mut signals).await;
    drop(signals);
    result
}

/// Shows the configuration, or says that it can be read.
fn about_config(
    command: ConfigCommand,
    args: Args,
    matches: &clap::ArgMatches,
) -> Result<(), Failure> {
    let config = args.resolve()?;
    let text = match command {
        ConfigCommand::Check => {
            format!("{} can be read\n", config.config_dir.join("config.toml").display())
        }
        ConfigCommand::Show { origin } => config_show::show(&config, matches, origin)?,
    };
    let said = io::stdout().lock().write_all(text.as_bytes());
    said.map_err(|error| failed("cannot say so", &error))
}

/// Brings the data directory to the current format, and says what was done.
async fn run_upgrade(config: &NodeConfig) -> Result<(), Failure> {
    let (env, dir) = (Env::real(), config.data_dir.clone());
    let upgraded = env.clone().offload(move || upgrade(&env, &dir)).await;
    let text = match upgraded.map_err(|error| start_failed(&error.into(), config))? {
        Upgraded::Already => "has the current format already".to_owned(),
        Upgraded::Now { rows } => format!("is upgraded: {rows} references moved"),
    };
    let said = writeln!(io::stdout().lock(), "{} {text}", config.data_dir.display());
    said.map_err(|error| failed("cannot say so", &error))
}

async fn start(env: &Env, config: &NodeConfig) -> Result<(TcpListener, Arc<Server>), Failure> {
    known_nodes::refuse_to_replace(config)?;
    let invite = config.join.as_deref().map(|at| join::read(at, config)).transpose()?.flatten();
    let mut recalled = None;
    if let Some(invite) = &invite {
        join::fetch_keys(env, config, invite).await?;
    } else if config.storage_only && config.bootstrap.is_empty() && !has_keys(&config.config_dir) {
        // Before any key is made.
        return Err(start_failed(&StartServerError::NoVaultKey, config));
    } else if !config.storage_only {
        recalled = join::recall_key(env, config).await?;
    }
    let keys = load_keys(env, config, invite.is_some(), recalled.clone()).await?;
    config.unlock.forget();
    if keys.vault.is_none() {
        info!("no vault key: this node is storage-only and opens no file");
    }
    // The port is bound first, so that a busy one costs nothing.
    let listener = TcpListener::bind(config.api).await;
    let listener = listener.map_err(|error| {
        let what = format!("the API cannot listen on {}: {error}", config.api);
        Failure::new(Code::Failed, what).hint(listen_hint(&error, "--api"))
    })?;
    let server = Server::start(env.clone(), server_config(config, keys, invite)).await;
    let server = Arc::new(server.map_err(|error| start_failed(&error, config))?);
    if let Some(key) = recalled {
        let (env, dir, client) = (env.clone(), config.config_dir.clone(), server.client());
        tokio::spawn(join::keep_key(env, dir, key, client));
    }
    Ok((listener, server))
}

/// The keys to start with: those of the config directory, or a recalled one beside the vault's.
async fn load_keys(
    env: &Env,
    config: &NodeConfig,
    invited: bool,
    recalled: Option<ClusterKey>,
) -> Result<keyring::Keys, Failure> {
    let (keys_env, dir) = (env.clone(), config.config_dir.clone());
    let (storage_only, unlock) = (config.storage_only, config.unlock.clone());
    if let Some(cluster) = recalled {
        let vault = env.offload(move || keyring::vault_alone(&keys_env, &dir, &unlock)).await?;
        return Ok(keyring::Keys { cluster, vault });
    }
    // All nodes on this machine share the keys. Else only the founder may make them.
    let is_here = config.bootstrap.iter().all(Address::is_loopback);
    let may_make = config.init || (is_here && !invited);
    let load = move || {
        let vault = if storage_only { Vault::StaysClosed } else { Vault::Opens(&unlock) };
        keyring::load_or_create(&keys_env, &dir, may_make, vault)
    };
    env.offload(load).await
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("{what}: {error}"))
}

fn server_config(config: &NodeConfig, keys: keyring::Keys, invite: Option<Invite>) -> Config {
    let mut bootstrap = config.bootstrap.clone();
    let invited_by = invite.iter().flat_map(|invite| &invite.addrs);
    bootstrap.extend(invited_by.filter(|addr| !config.bootstrap.contains(addr)).cloned());
    Config {
        data_dir: config.data_dir.clone(),
        listen: config.listen,
        bootstrap,
        invite,
        init: config.init,
        founds: config.join.is_none(),
        new_node: config.new_node,
        cluster_key: keys.cluster,
        vault: keys.vault.map(|key| VaultConfig { key }),
        zone: config.zone.clone(),
        capacity: config.capacity,
        packed_max: dfs_store::PACKED_BYTES_MAX,
        out_after: config.out_after,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        grace: config.grace,
        cadence: config.cadence,
    }
}

fn start_failed(error: &StartServerError, config: &NodeConfig) -> Failure {
    let message = chain(error);
    match error {
        StartServerError::Store(OpenStoreError::Locked(_)) => Failure::new(Code::Locked, message)
            .hint("another dfs-node runs on this directory: stop it, or give another --data-dir"),
        StartServerError::Store(OpenStoreError::Exposed(_)) => Failure::new(Code::Failed, message)
            .hint(format!("make it yours and chmod 700 {}", config.data_dir.display())),
        StartServerError::Store(OpenStoreError::Old(_)) => Failure::new(Code::Failed, message)
            .hint(
                "run 'dfs-node upgrade' with the same --data-dir: it keeps everything. Nodes of \
             earlier versions cannot talk to this one, so upgrade every node of the cluster",
            ),
        StartServerError::NoVaultKey => Failure::new(Code::Failed, message).hint(
            "name a node of the cluster with --bootstrap, or leave out --storage-only to found one",
        ),
        StartServerError::Store(OpenStoreError::Foreign(_)) => {
            Failure::new(Code::Failed, message).hint("give --data-dir an empty or a new directory")
        }
        StartServerError::Store(OpenStoreError::Key(_)) | StartServerError::Key(_) => {
            Failure::new(Code::Key, message)
                .hint("restore the file from a backup; a node with a new key is a new node")
        }
        StartServerError::Store(OpenStoreError::Index(..)) => Failure::new(Code::Failed, message)
            .hint(
                "this node cannot go on: its copies are on other nodes. Move 'format' and 'blobs' \
                 of this directory into an empty one and start a new node there with --new-node \
                 and --bootstrap: it takes over what verifies and fetches the rest",
            ),
        StartServerError::Network(StartError::Listen(_, error)) => {
            Failure::new(Code::Failed, message).hint(listen_hint(error, "--listen"))
        }
        StartServerError::Store(OpenStoreError::UnknownVersion(..)) => {
            Failure::new(Code::Failed, message)
                .hint("a newer dfs-node wrote it: start that version, or a later one")
        }
        StartServerError::Retired(_) => Failure::new(Code::Failed, message).hint(
            "what it holds may be stale: give --data-dir an empty directory, and --new-node to \
             join as a new node; the other nodes have the copies",
        ),
        _ => Failure::new(Code::Failed, message),
    }
}

/// What to do where an address cannot be listened on; `flag` is the one that gave it.
fn listen_hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program uses the port: give another {flag}, or port 0 for a free one")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine does not have that address: give {flag} one that it has, as '[::1]:0' \
             where there is only IPv6"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege: give {flag} a higher one")
        }
        _ => format!("give another {flag}"),
    }
}

async fn serve(
    env: &Env,
    config: &NodeConfig,
    server: &Arc<Server>,
    listener: TcpListener,
    signals: &mut EndSignals,
) -> Result<(), Failure> {
    let api_addr =
        listener.local_addr().map_err(|error| failed("cannot tell the API's address", &error))?;
    if !api_addr.ip().is_loopback() {
        warn!(%api_addr, "other machines reach the API, and it is not encrypted");
    }
    let url = format!("http://{api_addr}");
    let token_file = config.data_dir.join("api-token");
    let token_failed = |error| failed(&format!("cannot write {}", token_file.display()), &error);
    let token_file = std::path::absolute(&token_file).map_err(token_failed)?;
    let tokens = api::Tokens::open(env, &token_file).map_err(token_failed)?;
    let api = Api::new(env, server.client(), tokens, api_addr, config.api_hosts.clone())?;
    let stop = CancellationToken::new();
    let serving = env.spawn("api", api.serve(listener, stop.clone()));
    let record = RunRecord {
        node: server.node_id().to_string(),
        listen: server.listen_addr(),
        api: url.clone(),
        token_file,
        locked: false,
        pid: std::process::id(),
        boot: run_record::this_boot(),
        started: run_record::started(std::process::id()),
    };
    let known = KnownNode::of(record.node.clone(), record.listen, config);
    let dir = config.config_dir.clone();
    let noted = known_nodes::note_once_joined(env.clone(), dir, known, server.client());
    let _noting = env.spawn("note", noted);
    let _published = publish(&config.config_dir, &record);
    if let Err(error) = say_ready(&record) {
        warn!(%error, "nobody was told that this node is ready");
    }
    let _watched = supervisor::ready(env, &record.api);
    let given_up = tokio::select! {
        biased;
        _ = signals.next() => None,
        why = server.given_up() => Some(why),
    };
    supervisor::stopping();
    match &given_up {
        None => info!("shutting down; a second signal ends at once"),
        Some(why) => error!(why, "this node ends"),
    }
    stop.cancel();
    let drain = async {
        // The API first: its requests still need the node.
        let _ = tokio::time::timeout(api::DRAIN_MAX, serving).await;
        server.shutdown().await;
    };
    tokio::select! {
        biased;
        code = signals.next() => {
            warn!("ended by a second signal");
            std::process::exit(code);
        }
        () = drain => {}
    }
    if server.client().has_left() || given_up.is_some() {
        known_nodes::forget(&config.config_dir, &record.node);
    }
    match given_up {
        Some(why) => Err(Failure::new(Code::Failed, why).hint(
            "if this machine is that member, mount its disk or give --data-dir where its files \
             are; if they are gone for good, --new-node starts another node here, and 'dfs remove' \
             takes the old one out",
        )),
        None if server.client().has_failed() => {
            Err(Failure::new(Code::Failed, "the disk failed while the node ran"))
        }
        None => Ok(()),
    }
}

fn publish(config_dir: &Path, record: &RunRecord) -> Option<run_record::Published> {
    match run_record::publish(&run_record::dirs(config_dir), record) {
        Ok(published) => Some(published),
        Err(error) => {
            error!(%error, "clients will not find this node by itself: give them its API URL");
            None
        }
    }
}

/// The one line that a supervisor waits for.
fn say_ready(record: &RunRecord) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready node={} listen={} api={}", record.node, record.listen, record.api)?;
    stdout.flush()
}

/// Threads for disk and cipher work: as many as the files that the store reads and writes at once.
/// The allocator keeps memory for each thread that ever ran, so more would not pay.
const BLOCKING_THREADS_MAX: usize = 24;
