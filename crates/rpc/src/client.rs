//! Asks a node on another machine.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter::successors;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gnt_bdev::drbd::DrbdMinor;
use gnt_bdev::transfer::Piece;
use gnt_bdev::{
    Assembled, Change, FoundVolume, Layer, Link, Operation, Space, Status, SyncProgress, Target, Told,
};
use gnt_cmdlib::node::{Node, NodeError, NodeResult, Role};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_process::DryRun;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::keys::NodeConfig;
use crate::tls;
use crate::wire::{
    AssembledForm, Call, DRY_RUN_HEADER, Dialect, DiskOf, HEADER, IdForm, MAX_DATA, MAX_DISKS, MAX_JSON,
    OPERATION_HEADER, PORT, PROTOCOL, Provider, Version, VolumeForm, join, split_body,
};

/// How long a node may take to accept a connection: one that is down is noticed soon.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a node whose daemon is not there may take to have it back, while an operation wants to go on.
const RESTART: Duration = Duration::from_secs(5);
/// How soon it is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// Largest answer.
const MAX_ANSWER: usize = 4 * MAX_JSON + MAX_DATA;

/// A node on another machine. Each call has a connection of its own, which ends with it: when the future of a call is dropped the node
/// notices, and ends what the call runs.
#[derive(Clone)]
pub struct Client {
    peer: Arc<Peer>,
    operation: Option<Arc<str>>,
    /// What would be done is noted there, and not done.
    dry_run: Option<Arc<DryRun>>,
    /// How long a script of a provider may run there.
    script: Duration,
}

struct Peer {
    name: String,
    uuid: String,
    address: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.peer.name)
            .field("address", &self.peer.address)
            .finish_non_exhaustive()
    }
}

/// Why a node cannot be reached, or its answer is none.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("'{address}' is no IP address")]
    Address { address: String },
    #[error("'{uuid}' cannot be the UUID of a node")]
    Uuid { uuid: String },
    #[error("no connection to {address} within {} s", CONNECT.as_secs())]
    Slow { address: SocketAddr },
    #[error("no connection to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error(transparent)]
    Certificate(rustls::Error),
    #[error("the connection was closed in the middle")]
    Closed,
    #[error("the connection broke off")]
    Broken(#[source] hyper::Error),
    #[error("the answer broke off")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer makes no sense")]
    Sense(#[source] Box<dyn StdError + Send + Sync>),
}

impl Problem {
    fn connect(address: SocketAddr, source: io::Error) -> Self {
        match (rustls_error(&source), source.kind()) {
            (Some(refused), _) => Self::Certificate(refused.clone()),
            (None, io::ErrorKind::UnexpectedEof) => Self::Closed,
            (None, _) => Self::Connect { address, source },
        }
    }

    fn broken(error: hyper::Error) -> Self {
        Self::of_io(&error).unwrap_or(Self::Broken(error))
    }

    fn body(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self::of_io(&*error).unwrap_or(Self::Body(error))
    }

    /// What is told of TLS in other words than its library's, which are for programmers.
    fn of_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<Self> {
        let mut causes = successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
            (*error).source()
        });
        let io = causes.find_map(|error| error.downcast_ref::<io::Error>())?;
        match (rustls_error(io), io.kind()) {
            (Some(refused), _) => Some(Self::Certificate(refused.clone())),
            (None, io::ErrorKind::UnexpectedEof) => Some(Self::Closed),
            (None, _) => None,
        }
    }

    /// Whether the node is up and its daemon is not; nothing was sent yet.
    fn is_restart(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), ConnectionRefused | ConnectionReset))
    }
}

/// What one side finds wrong with the other's certificate.
fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    let found = error.get_ref()?.downcast_ref()?;
    matches!(found, InvalidCertificate(_) | AlertReceived(_)).then_some(found)
}

/// An answer that makes no sense.
fn nonsense(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Problem {
    Problem::Sense(error.into())
}

impl Client {
    /// The node with this name and UUID that listens at `address` (`primary_ip`).
    pub fn new(name: &str, uuid: &str, address: &str, tls: Arc<ClientConfig>) -> Self {
        Self::with_port(name, uuid, address, PORT, tls)
    }

    /// The same, with another port.
    pub fn with_port(name: &str, uuid: &str, address: &str, port: u16, tls: Arc<ClientConfig>) -> Self {
        let peer = Peer {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            address: address.to_owned(),
            port,
            tls,
        };
        Self {
            peer: Arc::new(peer),
            operation: None,
            dry_run: None,
            script: gnt_extstorage::DEFAULT_TIMEOUT,
        }
    }

    /// The same node, with all calls part of an operation.
    #[must_use]
    pub fn for_operation(&self, operation: &str) -> Self {
        Self {
            operation: Some(operation.into()),
            ..self.clone()
        }
    }

    /// The same node, asked only what it would do: `noted` gets that.
    #[must_use]
    pub fn with_dry_run(self, noted: Arc<DryRun>) -> Self {
        Self {
            dry_run: Some(noted),
            ..self
        }
    }

    /// The same node, where a script of a provider may run for `timeout` (`es_timeout`): calls that may run some are waited for longer.
    #[must_use]
    pub fn with_script_timeout(self, timeout: Duration) -> Self {
        Self {
            script: timeout,
            ..self
        }
    }

    /// Who the node is; the cheapest call.
    pub async fn version(&self) -> NodeResult<Version> {
        self.ask(Call::Version).await
    }

    /// Ends what an operation left running on the node.
    pub async fn end_operation(&self, operation: &str) -> NodeResult<()> {
        let operation = operation.to_owned();
        self.ask(Call::GntEndOperation { operation }).await
    }

    /// Tells the node what it works by from now on.
    pub async fn configure(&self, config: &NodeConfig) -> NodeResult<()> {
        self.ask(Call::GntConfigure {
            name: config.name.clone(),
            address: config.address.clone(),
            settings: Box::new(config.settings.clone()),
            exclusive_storage: config.exclusive_storage,
        })
        .await
    }

    /// Asks, and reads the payload.
    async fn ask<T: DeserializeOwned>(&self, call: Call) -> NodeResult<T> {
        self.ask_with(call, |payload, _| {
            serde_json::from_value(payload).map_err(nonsense)
        })
        .await
    }

    /// Asks, and makes something of the payload and the bytes after it.
    async fn ask_with<T>(
        &self,
        call: Call,
        read: impl FnOnce(Value, &[u8]) -> Result<T, Problem>,
    ) -> NodeResult<T> {
        let procedure = call.procedure();
        let node = || self.peer.name.clone();
        let untrusted = |source| NodeError::Untrusted {
            node: node(),
            source: Box::new(source),
        };
        let unanswered = |problem| match problem {
            Problem::Certificate(refused) => untrusted(refused),
            problem => NodeError::Unanswered {
                node: node(),
                call: procedure.name(),
                source: Box::new(problem),
            },
        };
        let connection = self.connect().await.map_err(|problem| match problem {
            Problem::Certificate(refused) => untrusted(refused),
            problem => NodeError::Unreachable {
                node: node(),
                source: Box::new(problem),
            },
        })?;
        let patience = call.patience(self.script);
        let answer = timeout(patience, self.exchange(connection, &call)).await;
        let answer = answer
            .unwrap_or(Err(Problem::Late(patience)))
            .map_err(unanswered)?;
        let (json, data) =
            split_body::<Vec<Value>>(&answer, MAX_ANSWER).map_err(|error| unanswered(nonsense(error)))?;
        let mut json = json.into_iter();
        match (json.next(), json.next()) {
            (Some(Value::Bool(true)), Some(payload)) => {
                self.note(json.next());
                read(payload, data).map_err(unanswered)
            }
            (Some(Value::Bool(false)), Some(told)) => {
                let told: Told = serde_json::from_value(told).map_err(|error| unanswered(nonsense(error)))?;
                Err(NodeError::Storage(told.into()))
            }
            _ => Err(unanswered(nonsense("it is neither success nor failure"))),
        }
    }

    /// Notes what the node would have done.
    fn note(&self, noted: Option<Value>) {
        if let (Some(dry_run), Some(Value::Array(lines))) = (&self.dry_run, noted) {
            for line in lines.iter().filter_map(Value::as_str) {
                dry_run.record(format!("# on node {}: {line}", self.peer.name));
            }
        }
    }

    /// In an operation, a node whose daemon is being restarted is waited for.
    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Problem> {
        let deadline = Instant::now() + RESTART;
        loop {
            match self.connect_once().await {
                Err(problem)
                    if self.operation.is_some() && problem.is_restart() && Instant::now() < deadline =>
                {
                    sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn connect_once(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Problem> {
        let Peer {
            address, port, uuid, ..
        } = &*self.peer;
        let ip: IpAddr = address.parse().map_err(|_| Problem::Address {
            address: address.clone(),
        })?;
        let name = tls::server_name(uuid).ok_or_else(|| Problem::Uuid { uuid: uuid.clone() })?;
        let address = SocketAddr::new(ip, *port);
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            tls::prepare(&stream)?;
            TlsConnector::from(Arc::clone(&self.peer.tls))
                .connect(name, stream)
                .await
        };
        match timeout(CONNECT, connect).await {
            Ok(connected) => connected.map_err(|source| Problem::connect(address, source)),
            Err(_) => Err(Problem::Slow { address }),
        }
    }

    async fn exchange(
        &self,
        stream: tokio_rustls::client::TlsStream<TcpStream>,
        call: &Call,
    ) -> Result<Bytes, Problem> {
        let request = self.request(call)?;
        let (mut sender, connection) = http1::Builder::new()
            .writev(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Problem::broken)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(Problem::broken)?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(Problem::Status(status));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok(body.map_err(Problem::body)?.to_bytes())
        };
        tokio::pin!(answered, connection);
        tokio::select! {
            biased;
            answer = &mut answered => answer,
            // What was received before is still to be had.
            ended = &mut connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(Problem::broken(error)),
            },
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Problem> {
        let mut body = Value::from(call.encode(Dialect::Ours)).to_string().into_bytes();
        let data = call.data();
        if !data.is_empty() {
            body.push(b'\n');
            body.extend(data);
        }
        let mut request = Request::post(format!("/{}", call.procedure().name()))
            .header(HOST, &self.peer.name)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER, PROTOCOL);
        if let Some(operation) = &self.operation {
            request = request.header(OPERATION_HEADER, &**operation);
        }
        if self.dry_run.is_some() {
            request = request.header(DRY_RUN_HEADER, HeaderValue::from_static("1"));
        }
        request.body(Full::new(body.into())).map_err(nonsense)
    }
}

fn disk_of(disk: &Disk, instance: &str) -> DiskOf {
    DiskOf::new(disk, instance)
}

fn disks_of(targets: &[Target<'_>]) -> Vec<DiskOf> {
    let disks = targets.iter().map(|target| disk_of(target.disk, target.instance));
    disks.collect()
}

/// Results of many disks.
fn each<T, U>(
    all: Vec<Result<T, Told>>,
    mut read: impl FnMut(T) -> U,
) -> impl Iterator<Item = NodeResult<U>> {
    all.into_iter()
        .map(move |one| one.map(&mut read).map_err(|told| NodeError::Storage(told.into())))
}

impl Node for Client {
    fn name(&self) -> &str {
        &self.peer.name
    }

    async fn check(&self, disk: &Disk, instance: &str, operation: Operation) -> NodeResult<()> {
        let disk = disk_of(disk, instance);
        self.ask(Call::GntCheck { disk, operation }).await
    }

    async fn create(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<Change> {
        self.ask(Call::BlockdevCreate {
            disk: disk_of(disk, instance),
            on_primary: false,
            info: info.to_owned(),
            exclusive_storage: false,
        })
        .await
    }

    async fn assemble(&self, disk: &Disk, instance: &str, role: Role) -> NodeResult<Assembled> {
        let owner = Map::from_iter([("name".to_owned(), instance.into())]);
        let call = Call::BlockdevAssemble {
            disk: disk_of(disk, instance),
            owner,
            role,
            index: disk.index().unwrap_or_default(),
        };
        Ok(self.ask::<AssembledForm>(call).await?.into())
    }

    async fn assemble_all(
        &self,
        targets: &[Target<'_>],
        role: Role,
    ) -> NodeResult<Vec<NodeResult<Assembled>>> {
        let mut assembled = Vec::with_capacity(targets.len());
        for some in targets.chunks(MAX_DISKS) {
            let disks = disks_of(some);
            let all = self.ask(Call::GntAssembleAll { disks, role }).await?;
            assembled.extend(each(all, |form: AssembledForm| form.into()));
        }
        Ok(assembled)
    }

    async fn open(&self, targets: &[Target<'_>], exclusive: bool) -> NodeResult<()> {
        let disks = disks_of(targets);
        self.ask(Call::BlockdevOpen { disks, exclusive }).await
    }

    async fn take_over(&self, targets: &[Target<'_>], from: &str) -> NodeResult<()> {
        let (disks, from) = (disks_of(targets), from.to_owned());
        self.ask(Call::GntTakeOver { disks, from }).await
    }

    async fn close(&self, targets: &[Target<'_>]) -> NodeResult<()> {
        let disks = disks_of(targets);
        self.ask(Call::BlockdevClose { disks }).await
    }

    async fn shutdown(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        let disk = disk_of(disk, instance);
        self.ask(Call::BlockdevShutdown { disk }).await
    }

    async fn remove(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        let disk = disk_of(disk, instance);
        self.ask(Call::BlockdevRemove { disk }).await
    }

    async fn find(&self, disk: &Disk, instance: &str) -> NodeResult<Option<Status>> {
        let disk = disk_of(disk, instance);
        self.ask(Call::BlockdevFind { disk }).await
    }

    async fn find_all(&self, targets: &[Target<'_>]) -> NodeResult<Vec<NodeResult<Option<Status>>>> {
        let mut found = Vec::with_capacity(targets.len());
        for some in targets.chunks(MAX_DISKS) {
            let disks = disks_of(some);
            let all = self.ask(Call::GntFindAll { disks }).await?;
            found.extend(each(all, |status| status));
        }
        Ok(found)
    }

    async fn disconnect_net(&self, targets: &[Target<'_>]) -> NodeResult<Change> {
        let disks = disks_of(targets);
        self.ask(Call::DrbdDisconnectNet { disks }).await
    }

    async fn attach_net(&self, targets: &[Target<'_>], multimaster: bool) -> NodeResult<Change> {
        let disks = disks_of(targets);
        self.ask(Call::DrbdAttachNet { disks, multimaster }).await
    }

    async fn wait_sync(&self, targets: &[Target<'_>]) -> NodeResult<SyncProgress> {
        let disks = disks_of(targets);
        self.ask(Call::DrbdWaitSync { disks }).await
    }

    async fn needs_activation(&self, targets: &[Target<'_>]) -> NodeResult<Vec<String>> {
        let mut uuids = Vec::new();
        for some in targets.chunks(MAX_DISKS) {
            let disks = disks_of(some);
            uuids.extend(
                self.ask::<Vec<String>>(Call::DrbdNeedsActivation { disks })
                    .await?,
            );
        }
        Ok(uuids)
    }

    async fn pause_resume_sync(&self, targets: &[Target<'_>], pause: bool) -> NodeResult<()> {
        let disks = disks_of(targets);
        let all = self.ask(Call::BlockdevPauseResumeSync { disks, pause }).await?;
        each(all, |()| ()).collect()
    }

    async fn add_children(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.ask(Call::BlockdevAddchildren {
            disk: disk_of(disk, instance),
            sent: Box::new(disk.clone()),
        })
        .await
    }

    async fn remove_children(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.ask(Call::BlockdevRemovechildren {
            disk: disk_of(disk, instance),
            sent: Box::new(disk.clone()),
        })
        .await
    }

    async fn read(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        let disk = disk_of(disk, instance);
        self.ask_with(Call::GntRead { disk, offset, length }, pieces)
            .await
    }

    async fn image_size(&self, path: &str) -> NodeResult<u64> {
        let path = path.to_owned();
        self.ask(Call::GntImageSize { path }).await
    }

    async fn read_image(&self, path: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        let path = path.to_owned();
        self.ask_with(Call::GntReadImage { path, offset, length }, pieces)
            .await
    }

    async fn write(&self, disk: &Disk, instance: &str, pieces: &[Piece]) -> NodeResult<()> {
        self.ask(Call::GntWrite {
            disk: disk_of(disk, instance),
            pieces: pieces.to_vec(),
        })
        .await
    }

    async fn copy(&self, from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> NodeResult<()> {
        self.ask(Call::GntCopy {
            from: disk_of(from.disk, from.instance),
            to: Box::new(disk_of(to.disk, to.instance)),
            offset,
            length,
        })
        .await
    }

    async fn wipe(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<()> {
        let disk = disk_of(disk, instance);
        self.ask(Call::BlockdevWipe { disk, offset, length }).await
    }

    async fn checksum(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<[u8; 32]> {
        let disk = disk_of(disk, instance);
        self.ask(Call::GntChecksum { disk, offset, length }).await
    }

    async fn grow(
        &self,
        disk: &Disk,
        instance: &str,
        to: Mebibytes,
        layer: Layer,
        dry_run: bool,
    ) -> NodeResult<Change> {
        let amount = i128::from(to.0) - i128::from(disk.size.0);
        self.ask(Call::BlockdevGrow {
            disk: disk_of(disk, instance),
            amount: i64::try_from(amount).unwrap_or(i64::MAX),
            dry_run,
            layer,
            exclusive_storage: false,
        })
        .await
    }

    async fn rename(&self, disk: &Disk, instance: &str, to: &LogicalId) -> NodeResult<Change> {
        let disks = vec![(disk_of(disk, instance), to.clone())];
        self.ask(Call::BlockdevRename { disks }).await
    }

    async fn set_info(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<()> {
        self.ask(Call::BlockdevSetinfo {
            disk: disk_of(disk, instance),
            info: info.to_owned(),
        })
        .await
    }

    async fn snapshot(
        &self,
        disk: &Disk,
        instance: &str,
        name: &str,
        size: Mebibytes,
    ) -> NodeResult<LogicalId> {
        let call = Call::BlockdevSnapshot {
            disk: disk_of(disk, instance),
            name: Some(name.to_owned()),
            size: Some(size),
        };
        self.ask_with(call, |payload, _| id(payload)).await
    }

    async fn create_storage_dir(&self, path: &str) -> NodeResult<Change> {
        let path = path.to_owned();
        self.ask(Call::FileStorageDirCreate { path }).await
    }

    async fn remove_storage_dir(&self, path: &str) -> NodeResult<Change> {
        let path = path.to_owned();
        self.ask(Call::FileStorageDirRemove { path }).await
    }

    async fn rename_storage_dir(&self, from: &str, to: &str) -> NodeResult<Change> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.ask(Call::FileStorageDirRename { from, to }).await
    }

    async fn device_size(&self, path: &str) -> NodeResult<Mebibytes> {
        let paths = vec![path.to_owned()];
        self.ask_with(Call::BdevSizes { paths }, |payload, _| {
            let size = payload
                .get(path)
                .cloned()
                .ok_or_else(|| nonsense("the device is not in it"))?;
            serde_json::from_value(size).map_err(nonsense)
        })
        .await
    }

    async fn volumes(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<FoundVolume>> {
        let params = params.clone();
        self.ask_with(Call::GntVolumes { device, params }, |payload, _| {
            let forms: Vec<VolumeForm> = serde_json::from_value(payload).map_err(nonsense)?;
            forms
                .into_iter()
                .map(|form| form.try_into().map_err(nonsense))
                .collect()
        })
        .await
    }

    async fn space(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<Space>> {
        let params = params.clone();
        self.ask(Call::GntSpace { device, params }).await
    }

    async fn attached(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<LogicalId>> {
        let params = params.clone();
        self.ask_with(Call::GntAttached { device, params }, |payload, _| {
            let all: Vec<Value> = serde_json::from_value(payload).map_err(nonsense)?;
            all.into_iter().map(id).collect()
        })
        .await
    }

    async fn providers(&self) -> NodeResult<Vec<String>> {
        let all: Vec<Provider> = self.ask(Call::ExtstorageDiagnose).await?;
        let usable = all.into_iter().filter(|provider| provider.usable);
        let mut names: Vec<String> = usable.map(|provider| provider.name).collect();
        // One that another shadows has its name.
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn drbd_minors(&self) -> NodeResult<Vec<DrbdMinor>> {
        self.ask(Call::GntDrbdMinors).await
    }

    async fn drbd_helper(&self) -> NodeResult<String> {
        self.ask(Call::DrbdHelper).await
    }

    async fn links(&self) -> NodeResult<Vec<Link>> {
        self.ask(Call::GntLinks).await
    }

    async fn remove_link(&self, instance: &str, index: u32) -> NodeResult<Change> {
        let instance = instance.to_owned();
        self.ask(Call::GntRemoveLink { instance, index }).await
    }

    async fn move_link(&self, instance: &str, from: u32, to: u32) -> NodeResult<Change> {
        let instance = instance.to_owned();
        self.ask(Call::GntMoveLink { instance, from, to }).await
    }
}

fn id(payload: Value) -> Result<LogicalId, Problem> {
    let form: IdForm = serde_json::from_value(payload).map_err(nonsense)?;
    form.id().map_err(nonsense)
}

fn pieces(payload: Value, data: &[u8]) -> Result<Vec<Piece>, Problem> {
    let extents: Vec<_> = serde_json::from_value(payload).map_err(nonsense)?;
    join(&extents, data).map_err(nonsense)
}
