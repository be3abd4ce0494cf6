//! A manager and a node on this machine, with a real server between them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Settings};
use gnt_rpc::Client;
use gnt_rpc::keys::{Bundle, Manager, NodeConfig};
use gnt_rpc::server::{Limits, Server};
use gnt_tests::place::{copy_providers, private_dir};
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const INSTANCE: &str = "web.example.org";
pub(crate) const NODE: &str = "0c5f6d3e-node2";

/// All that it has is in one directory, which goes however the test ends.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) manager: Manager,
    pub(crate) bundle: Bundle,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let dir = private_dir().unwrap();
        let state = dir.path().join("node");
        let manager = Manager::ensure(&dir.path().join("manager"), "prod").unwrap();
        let mut settings = Settings::under(&state);
        let (shipped, odd) = (dir.path().join("shipped"), dir.path().join("odd"));
        copy_providers("providers", &shipped).unwrap();
        copy_providers("fixtures/providers", &odd).unwrap();
        settings.es_search_path = vec![shipped, odd];
        settings.es_timeout = 60;
        let config = NodeConfig {
            cluster: "cluster-uuid".to_owned(),
            cluster_name: "prod".to_owned(),
            uuid: NODE.to_owned(),
            name: "node2".to_owned(),
            address: Ipv4Addr::LOCALHOST.to_string(),
            settings,
            exclusive_storage: false,
        };
        let bundle = manager.bundle(config).unwrap();
        bundle.install(&state).unwrap();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(any_port, bundle.clone(), &state, limits)
            .await
            .unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.serve(async move { drop(stopped.await) }));
        Self {
            dir,
            manager,
            bundle,
            address,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    /// The manager's view of the node.
    pub(crate) fn client(&self) -> Client {
        self.client_with(self.manager.client().unwrap())
    }

    pub(crate) fn client_with(&self, tls: Arc<ClientConfig>) -> Client {
        Client::with_port("node2", NODE, "127.0.0.1", self.address.port(), tls)
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.await.unwrap();
        }
    }

    /// Starts it again where it was.
    pub(crate) async fn start(&mut self) {
        let state = self.state();
        let server = Server::bind(self.address, self.bundle.clone(), &state, Limits::default())
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        self.server = Some(tokio::spawn(server.serve(async move { drop(stopped.await) })));
    }

    /// A disk of the instance, as the layout would make it.
    pub(crate) fn disk(&self, device: LogicalDevice, index: u32, size: Mebibytes) -> Disk {
        let name = format!("01234567-89ab-cdef-0123-456789abcde{index}.{device}.disk{index}");
        let file = |base: &str| LogicalId::File {
            driver: FileDriver::Loop,
            path: self
                .state()
                .join(base)
                .join(INSTANCE)
                .join(&name)
                .display()
                .to_string(),
        };
        let id = match device {
            LogicalDevice::File => file("file-storage"),
            LogicalDevice::SharedFile => file("shared-file-storage"),
            _ => LogicalId::Ext {
                provider: "ext".to_owned(),
                volume: name.clone(),
            },
        };
        Disk {
            uuid: format!("disk-uuid-{index}"),
            iv_name: Some(format!("disk/{index}")),
            ..Disk::new(device, id, size)
        }
    }

    /// An ext disk of one of the odd providers in `fixtures`, with one of its parameters set.
    pub(crate) fn odd_disk(&self, provider: &str, parameter: &str, value: &str) -> Disk {
        let volume = format!("01234567-89ab-cdef-0123-456789abcdef.ext.disk-{provider}");
        let id = LogicalId::Ext {
            provider: provider.to_owned(),
            volume,
        };
        let volumes = self.dir.path().join("volumes");
        std::fs::create_dir_all(&volumes).unwrap();
        let params = serde_json::json!({"provider": provider, "dir": volumes, parameter: value});
        Disk {
            uuid: format!("uuid-{provider}"),
            iv_name: Some("disk/0".to_owned()),
            params: serde_json::from_value(params).unwrap(),
            ..Disk::new(LogicalDevice::Ext, id, Mebibytes(8))
        }
    }
}

/// A client as another program would be one: what it sends is up to the test.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
}

impl World {
    /// Connects, with the handshake done as far as the client can tell.
    pub(crate) async fn connect(&self, tls: Arc<ClientConfig>) -> io::Result<Raw> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = format!("{NODE}.node").try_into().unwrap();
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        Ok(Raw { stream })
    }

    /// Connects as the manager.
    pub(crate) async fn raw(&self) -> Raw {
        self.connect(self.manager.client().unwrap()).await.unwrap()
    }

    /// What Ganeti's master would be answered.
    pub(crate) async fn ganeti(&self, procedure: &str, body: &[u8]) -> Value {
        let (status, body) = self.raw().await.post(procedure, "", body).await.unwrap();
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }
}

impl Raw {
    /// One request, with `headers` as lines.
    pub(crate) async fn post(mut self, path: &str, headers: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes()).await?;
        // Who refuses a body need not read it.
        let _ = self.send(body).await;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Waits until something comes.
    pub(crate) async fn some(&mut self) {
        assert_ne!(self.stream.read(&mut [0; 4096]).await.unwrap(), 0);
    }

    /// Status and body, once the server has closed.
    pub(crate) async fn answer(mut self) -> io::Result<(u16, Vec<u8>)> {
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes).await;
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            read?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, bytes[end + 4..].to_vec()))
    }
}
