//! Callers that go away, operations that are ended, a server that is asked to stop.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnt_bdev::Change;
use gnt_cmdlib::kind::Kind;
use gnt_cmdlib::step::{Place, Step};
use gnt_cmdlib::{Engine, Error, Node as _, Nodes};
use gnt_config::Disk;
use gnt_rpc::Client;
use gnt_rpc::server::Limits;
use gnt_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::world::{INSTANCE, NODE, World};

const PATIENCE: Duration = Duration::from_secs(20);

/// Begins to create a disk whose script takes so many seconds, and returns when the script runs.
async fn slow_create(
    world: &World,
    node: Client,
    seconds: &str,
) -> (Disk, JoinHandle<Result<Change, String>>) {
    let disk = world.odd_disk("slow", "sleep", seconds);
    let task = tokio::spawn({
        let disk = disk.clone();
        async move {
            node.create(&disk, INSTANCE, "")
                .await
                .map_err(|error| gnt_cmdlib::error::chain(&error))
        }
    });
    until_a_script_runs(world).await;
    (disk, task)
}

/// The processes that run scripts of this world's providers.
fn scripts(world: &World) -> Vec<PathBuf> {
    let ours = world.dir.path().join("odd");
    let ours = ours.to_str().unwrap();
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let is_ours = |process: &PathBuf| {
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(ours)
    };
    processes.filter(is_ours).collect()
}

async fn until_a_script_runs(world: &World) {
    let runs = async {
        while scripts(world).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, runs).await.unwrap();
}

async fn until_no_script_runs(world: &World) {
    let none = async {
        while !scripts(world).is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, none).await.unwrap();
}

#[tokio::test]
async fn what_a_caller_that_is_gone_was_running_is_ended() {
    let world = World::new().await;
    let node = world.client().for_operation("rpc-gone-caller");
    let (disk, task) = slow_create(&world, node.clone(), "30").await;
    task.abort();
    let begun = Instant::now();
    until_no_script_runs(&world).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // Its disk is free again, and nothing was made.
    let mut quick = disk.clone();
    quick.params.insert("sleep".to_owned(), "0".into());
    let found = timeout(PATIENCE, node.find(&quick, INSTANCE)).await.unwrap();
    assert_eq!(found.unwrap(), None);
}

#[tokio::test]
async fn what_undoes_a_call_whose_caller_is_gone_is_not_ended_with_it() {
    let world = World::new().await;
    let node = world.client().for_operation("rpc-undone");
    let (mut disk, task) = slow_create(&world, node.clone(), "30").await;
    task.abort();
    disk.params.insert("sleep".to_owned(), "0.3".into());
    let removed = timeout(PATIENCE, node.remove(&disk, INSTANCE)).await.unwrap();
    assert_eq!(removed.unwrap(), Change::AlreadyThere);
    assert_eq!(scripts(&world), Vec::<PathBuf>::new());
}

/// A cluster of the one node.
struct Only(Client);

impl Nodes for Only {
    type Node = Client;

    fn node(&self, _uuid: &str) -> gnt_cmdlib::Result<&Client> {
        Ok(&self.0)
    }

    fn for_operation(&self, operation: &str) -> Self {
        Self(self.0.for_operation(operation))
    }

    fn end_orphans_here(&self, _operation: &str) -> gnt_cmdlib::Result<()> {
        Ok(())
    }

    async fn end_orphans(&self, operation: &str, _nodes: &[String]) -> gnt_cmdlib::Result<()> {
        Ok(self.0.end_operation(operation).await?)
    }
}

/// The port of something that passes connections on to the server. Those that are open when it is told to break off end for the client, and
/// not for the server.
async fn weak_link(world: &World, breaks: Arc<Notify>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = world.address;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let breaks = Arc::clone(&breaks);
            tokio::spawn(async move {
                let mut node = TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut node) => {}
                    () = breaks.notified() => {
                        drop(client);
                        sleep(PATIENCE * 2).await;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn an_operation_is_undone_after_a_node_did_not_answer() {
    let world = World::new().await;
    let breaks = Arc::new(Notify::new());
    let port = weak_link(&world, Arc::clone(&breaks)).await;
    let tls = world.manager.client().unwrap();
    let nodes = Only(Client::with_port("node2", NODE, "127.0.0.1", port, tls));
    let store = Store::in_memory().unwrap();
    let engine = Engine {
        store: &store,
        nodes: &nodes,
        dry_run: false,
        observer: &|_| {},
    };
    let disk = world.odd_disk("hangs", "on", "create");
    let create = Step::CreateDisk {
        at: Place {
            node: NODE.to_owned(),
            instance: INSTANCE.to_owned(),
            disk: Box::new(disk.clone()),
        },
        info: String::new(),
    };
    let run = timeout(
        PATIENCE,
        engine.run(Kind::Add, &[INSTANCE], async |_| Ok(vec![create])),
    );
    let cut = async {
        until_a_script_runs(&world).await;
        breaks.notify_waiters();
    };
    let (ran, ()) = tokio::join!(run, cut);
    let error = ran.unwrap().unwrap_err();
    let told = gnt_cmdlib::error::chain(&error);
    assert!(matches!(error, Error::Undone { .. }), "{told}");
    assert!(told.contains("did not answer"), "{told}");
    assert_eq!(scripts(&world), Vec::<PathBuf>::new());
    assert_eq!(world.client().find(&disk, INSTANCE).await.unwrap(), None);
}

#[tokio::test]
async fn a_call_that_is_part_of_no_operation_goes_on_without_its_caller() {
    let world = World::new().await;
    let (disk, task) = slow_create(&world, world.client(), "1").await;
    task.abort();
    let mut quick = disk.clone();
    quick.params.insert("sleep".to_owned(), "0".into());
    // This call waits for the other, as it is about the same disk.
    let node = world.client();
    assert_eq!(
        node.create(&quick, INSTANCE, "").await.unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(node.remove(&quick, INSTANCE).await.unwrap(), Change::Made);
}

#[tokio::test]
async fn an_operation_is_ended_by_a_call() {
    let world = World::new().await;
    let node = world.client().for_operation("rpc-ended");
    let (disk, running) = slow_create(&world, node.clone(), "30").await;
    // Waits for the same disk, and must not begin afterwards.
    let waiting = tokio::spawn({
        let (node, disk) = (node.clone(), disk.clone());
        async move {
            node.remove(&disk, INSTANCE)
                .await
                .map_err(|error| gnt_cmdlib::error::chain(&error))
        }
    });
    sleep(Duration::from_millis(100)).await;
    let other = world.client();
    other.end_operation("rpc-none").await.unwrap();
    assert!(!running.is_finished());
    timeout(PATIENCE, other.end_operation("rpc-ended"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scripts(&world), Vec::<PathBuf>::new());
    let error = running.await.unwrap().unwrap_err();
    assert!(error.contains("signal") || error.contains("killed"), "{error}");
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.contains("was ended"), "{error}");
    // What comes later is done.
    let mut quick = disk.clone();
    quick.params.insert("sleep".to_owned(), "0".into());
    assert_eq!(node.find(&quick, INSTANCE).await.unwrap(), None);
}

#[tokio::test]
async fn other_disks_do_not_wait() {
    let world = World::new().await;
    let (_, slow) = slow_create(&world, world.client().for_operation("rpc-slow"), "30").await;
    let other = world.disk(gnt_config::LogicalDevice::Ext, 0, gnt_config::Mebibytes(8));
    let found = timeout(Duration::from_secs(5), world.client().find(&other, INSTANCE))
        .await
        .unwrap();
    assert_eq!(found.unwrap(), None);
    slow.abort();
    until_no_script_runs(&world).await;
}

#[tokio::test]
async fn calls_that_only_look_do_not_wait() {
    let world = World::new().await;
    let (mut disk, slow) = slow_create(&world, world.client().for_operation("rpc-looks"), "30").await;
    disk.params.insert("sleep".to_owned(), "0".into());
    let node = world.client();
    let target = gnt_bdev::Target::new(&disk, INSTANCE);
    let found = timeout(Duration::from_secs(5), node.find_all(&[target]))
        .await
        .unwrap();
    assert_eq!(found.unwrap().remove(0).unwrap(), None);
    let change = timeout(Duration::from_millis(300), node.shutdown(&disk, INSTANCE)).await;
    assert!(change.is_err(), "{change:?}");
    slow.abort();
    until_no_script_runs(&world).await;
}

#[tokio::test]
async fn calls_that_run_finish_when_the_server_is_asked_to_stop() {
    let mut world = World::new().await;
    let (disk, running) = slow_create(&world, world.client().for_operation("rpc-finishes"), "1").await;
    let idle = world.raw().await;
    world.stop().await;
    assert_eq!(running.await.unwrap(), Ok(Change::Made));
    drop(idle);
    assert!(world.client().version().await.is_err());
    let volumes = world.dir.path().join("volumes");
    let name = format!("{}.img", disk.logical_id.volume());
    assert!(volumes.join(name).exists());
}

#[tokio::test]
async fn what_runs_longer_than_the_server_may_wait_is_ended() {
    let limits = Limits {
        grace: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut world = World::with(limits).await;
    let (_, running) = slow_create(&world, world.client().for_operation("rpc-too-long"), "30").await;
    let begun = Instant::now();
    world.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(running.await.unwrap().is_err());
    until_no_script_runs(&world).await;
}

#[tokio::test]
async fn a_node_works_by_what_it_is_told() {
    let mut world = World::new().await;
    let node = world.client();
    let elsewhere = world.dir.path().join("elsewhere");
    let path = elsewhere.join("web").display().to_string();
    node.create_storage_dir(&path).await.unwrap_err();
    let mut config = world.bundle.config.clone();
    config.settings.file_storage_paths = vec![elsewhere.clone()];
    config.name = "renamed".to_owned();
    config.address = "192.0.2.22".to_owned();
    // It joined again, and the server was not started since.
    let renewed = world.manager.bundle(world.bundle.config.clone()).unwrap();
    renewed.install(&world.state()).unwrap();
    node.configure(&config).await.unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    assert_eq!(node.create_storage_dir(&path).await.unwrap(), Change::Made);
    assert_eq!(node.version().await.unwrap().node, "renamed");
    // Also the next time that it starts.
    let kept = gnt_rpc::keys::Bundle::load(&world.state()).unwrap().unwrap();
    assert_eq!(kept.config, config);
    assert_eq!(kept.identity, renewed.identity);
    world.stop().await;
}

#[tokio::test]
async fn a_dry_run_tells_what_a_node_would_do() {
    let world = World::new().await;
    let noted = std::sync::Arc::new(gnt_process::DryRun::new(gnt_process::System));
    let node = world.client().with_dry_run(std::sync::Arc::clone(&noted));
    let disk = world.disk(gnt_config::LogicalDevice::Ext, 0, gnt_config::Mebibytes(8));
    node.create(&disk, INSTANCE, "").await.unwrap();
    let changes = noted.changes();
    assert!(
        !changes.is_empty() && changes.iter().all(|line| line.starts_with("# on node node2: ")),
        "{changes:?}"
    );
    assert_eq!(world.client().find(&disk, INSTANCE).await.unwrap(), None);
}
