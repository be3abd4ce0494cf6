//! Callers that go away, operations that are ended, a server that is asked to stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gnt_bdev::Change;
use gnt_cmdlib::Node as _;
use gnt_config::Disk;
use gnt_rpc::Client;
use gnt_rpc::server::Limits;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::world::{INSTANCE, World};

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
    let runs = async {
        while scripts(world).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, runs).await.unwrap();
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
