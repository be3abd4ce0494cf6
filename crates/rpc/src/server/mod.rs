//! Answers calls on this machine: the daemon.
//!
//! A call has its disks for itself unless it only looks, waits for them in the order in which calls came, and goes on to its end although its caller
//! is gone. What it runs is ended then, if it is part of an operation: nobody would know what it did.

mod disks;
mod dispatch;
mod http;
mod operations;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gnt_bdev::Host;
use gnt_cmdlib::LocalNode;
use gnt_config::Settings;
use gnt_process::{DryRun, System};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::keys::{Bundle, KeyError, NodeConfig};
use crate::tls;
use disks::Disks;
use operations::Operations;

/// How much a server does at once, and how long it waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of clients whose certificate was accepted.
    pub connections: usize,
    /// Connections of clients that have not shown theirs: for one more the one that has been there longest goes.
    pub handshakes: usize,
    /// Calls at work.
    pub calls: usize,
    /// Bytes of bodies that are being read or worked on.
    pub body_bytes: usize,
    /// How long a client may take to show its certificate.
    pub handshake: Duration,
    /// How long a client may take to send a header, also the first and the next of a connection.
    pub header: Duration,
    /// How long a client may take to send a body.
    pub body: Duration,
    /// How long running calls may go on when the server is asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshakes: 256,
            calls: 64,
            body_bytes: 128 << 20,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            body: Duration::from_secs(60),
            grace: Duration::from_secs(60),
        }
    }
}

/// A server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Name of the node, if the address is the one that the cluster knows.
        node: Option<String>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl ServeError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { node, source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Some(
                    "another gnt-disk serve, or Ganeti's noded, is running there: end it; the manager asks for no other port"
                        .to_owned(),
                ),
                io::ErrorKind::AddrNotAvailable => Some(match node {
                    None => {
                        "this machine does not have that address; choose another with --listen".to_owned()
                    }
                    Some(node) => format!(
                        "this machine does not have the address of node {node}: if it has another now, \
                         'gnt-disk node modify {node} --primary-ip ADDRESS' on the master node changes it, and \
                         'gnt-disk node add {node} --readd' brings it here; --listen chooses another until then"
                    ),
                }),
                _ => None,
            },
            Self::Keys(error) => error.hint(),
        }
    }
}

/// A server that has its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
}

/// What all connections of a server have.
#[derive(Debug)]
struct Shared {
    state: PathBuf,
    current: Mutex<Current>,
    limits: Limits,
    disks: Arc<Disks>,
    operations: Arc<Operations>,
    calls: Arc<Semaphore>,
    /// In KiB.
    bodies: Arc<Semaphore>,
}

/// What the node works by, until it is told anew.
#[derive(Debug, Clone)]
struct Current {
    bundle: Bundle,
    node: LocalNode,
}

impl Current {
    fn new(bundle: Bundle, state: &Path) -> Self {
        let host = host(&bundle, |name, settings| {
            Host::new(name, settings, state, Arc::new(System))
        });
        Self {
            node: LocalNode::new(host),
            bundle,
        }
    }
}

fn host(bundle: &Bundle, make: impl FnOnce(&str, &Settings) -> Host) -> Host {
    let config = &bundle.config;
    let mut host = make(&config.name, &config.settings);
    host.exclusive_storage = config.exclusive_storage;
    host
}

impl Server {
    /// Listens on `address` as the node that `bundle` is for; directories below `state` are ours to make.
    pub async fn bind(
        address: SocketAddr,
        bundle: Bundle,
        state: &Path,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let tls = bundle.server()?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| {
            let own = bundle.config.address.parse() == Ok(address.ip());
            ServeError::Listen {
                address,
                node: own.then(|| bundle.config.name.clone()),
                source,
            }
        })?;
        Ok(Self {
            listener,
            tls,
            shared: Arc::new(Shared {
                state: state.to_owned(),
                current: Mutex::new(Current::new(bundle, state)),
                disks: Arc::default(),
                operations: Arc::default(),
                calls: Arc::new(Semaphore::new(limits.calls)),
                bodies: Arc::new(Semaphore::new(limits.body_bytes >> 10)),
                limits,
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is over. Calls that run then may finish, for as long as the limits say; what runs even longer is ended.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self {
            listener,
            tls,
            shared,
        } = self;
        let tls = TlsAcceptor::from(tls);
        let (stopping, stopped) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(shared.limits.connections));
        // One for each client that may have to go, the longest there first; dropping it lets the client go.
        let mut strangers = VecDeque::new();
        let mut tasks = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            while tasks.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // As when files are used up: others may be closed meanwhile.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, shared, connections) = (tls.clone(), Arc::clone(&shared), Arc::clone(&connections));
            let mut stopped = stopped.clone();
            // Who takes its time must not keep the manager waiting.
            strangers.retain(|stranger: &oneshot::Sender<()>| !stranger.is_closed());
            if strangers.len() >= shared.limits.handshakes {
                strangers.pop_front();
            }
            let (stay, go) = oneshot::channel();
            strangers.push_back(stay);
            tasks.spawn(async move {
                let stream = tokio::select! {
                    stream = shake_hands(&tls, stream, peer, shared.limits.handshake) => stream,
                    _ = stopped.changed() => None,
                    _ = go => {
                        info!(%peer, why = "too many others came meanwhile", "refused");
                        None
                    }
                };
                let Some(stream) = stream else { return };
                let Ok(_permit) = connections.try_acquire_owned() else {
                    warn!(%peer, "too many connections");
                    return;
                };
                converse(shared, stream, peer, stopped).await;
            });
        }
        drop(listener);
        info!(calls = shared.operations.count(), "stopping");
        let _ = stopping.send(true);
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(shared.limits.grace, all).await.is_err() {
            warn!("what still runs is ended");
            let operations = Arc::clone(&shared.operations);
            let _ = tokio::task::spawn_blocking(move || operations.end_all()).await;
            tasks.shutdown().await;
        }
        info!("stopped");
    }
}

impl Shared {
    fn current(&self) -> Current {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The node for one call.
    fn node(&self, operation: Option<&str>, dry_run: Option<&Arc<DryRun>>) -> LocalNode {
        let Current { bundle, node } = self.current();
        let node = match dry_run {
            None => node,
            Some(noted) => LocalNode::new(host(&bundle, |name, settings| {
                Host::dry_run(name, settings, &self.state, Arc::clone(noted))
            })),
        };
        match operation {
            Some(operation) => node.for_operation(operation),
            None => node,
        }
    }

    /// Takes what the manager says that the node works by, once it is kept. What else is kept stays, as new keys that came meanwhile.
    fn configure(&self, change: impl FnOnce(&mut NodeConfig)) -> Result<(), KeyError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bundle = match Bundle::load(&self.state)? {
            Some(kept) if kept.config.is_same_node(&current.bundle.config) => kept,
            Some(another) => return Err(another.joined(&self.state)),
            None => current.bundle.clone(),
        };
        change(&mut bundle.config);
        bundle.install(&self.state)?;
        *current = Current::new(bundle, &self.state);
        Ok(())
    }
}

type Stream = tokio_rustls::server::TlsStream<TcpStream>;

/// Lets a client of the cluster in. Others get an alert, and are told nothing.
async fn shake_hands(
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    patience: Duration,
) -> Option<Stream> {
    let shaken = async {
        tls::prepare(&stream)?;
        tls.accept(stream).await
    };
    match timeout(patience, shaken).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            info!(%peer, why = %error, "refused");
            None
        }
        Err(_) => {
            info!(%peer, why = "it took too long", "refused");
            None
        }
    }
}

/// Answers the calls of one connection.
async fn converse(shared: Arc<Shared>, stream: Stream, peer: SocketAddr, mut stopped: watch::Receiver<bool>) {
    let header = shared.limits.header;
    let service = service_fn(move |request| http::answer(Arc::clone(&shared), request));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header)
            .max_headers(32)
            .max_header_size(16 << 10)
            .writev(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut served = tokio::select! {
        served = &mut connection => Some(served),
        _ = stopped.changed() => None,
    };
    if served.is_none() {
        connection.as_mut().graceful_shutdown();
        served = Some(connection.await);
    }
    if let Some(Err(error)) = served {
        debug!(%peer, %error, "connection broke off");
    }
}
