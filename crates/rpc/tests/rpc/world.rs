//! A manager and a node on this machine, with a real server between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes, Settings};
use gnt_rpc::Client;
use gnt_rpc::keys::{Bundle, Manager, NodeConfig};
use gnt_rpc::server::{Limits, Server};
use gnt_tests::place::{copy_providers, private_dir};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

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

    pub(crate) fn client_with(&self, tls: std::sync::Arc<rustls::ClientConfig>) -> Client {
        Client::with_port("node2", NODE, "127.0.0.1", self.address.port(), tls)
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.await.unwrap();
        }
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

    /// An ext disk of one of the odd providers in `fixtures`.
    pub(crate) fn odd_disk(&self, provider: &str) -> Disk {
        let id = LogicalId::Ext {
            provider: provider.to_owned(),
            volume: format!("01234567-89ab-cdef-0123-456789abcdef.ext.disk-{provider}"),
        };
        Disk {
            uuid: format!("uuid-{provider}"),
            iv_name: Some("disk/0".to_owned()),
            ..Disk::new(LogicalDevice::Ext, id, Mebibytes(8))
        }
    }
}
