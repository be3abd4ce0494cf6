//! The cheapest call to a node, with a TLS connection of its own, as a multiple of one that is bare TCP: connect, ask, be answered.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use gnt_benches::{Comparison, quick};
use gnt_config::Settings;
use gnt_rpc::keys::{Bundle, Manager, NodeConfig};
use gnt_rpc::server::Limits;
use gnt_rpc::{Client, Server};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 1000;
/// As long as a call and its answer.
const MESSAGE: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let manager = Manager::ensure(&directory.path().join("manager"), "bench")?;
    let state = directory.path().join("node");
    let bundle = manager.bundle(NodeConfig {
        cluster: "cluster".to_owned(),
        cluster_name: "bench".to_owned(),
        uuid: "node".to_owned(),
        name: "node".to_owned(),
        address: Ipv4Addr::LOCALHOST.to_string(),
        settings: Settings::under(&state),
        exclusive_storage: false,
    })?;
    let node = serve(bundle, &state)?;
    let client = Client::with_port("node", "node", "127.0.0.1", node.port(), manager.client()?);
    let echo = echo()?;
    let runtime = runtime()?;
    let call = || runtime.block_on(client.version());
    call()?;

    let mut criterion = quick();
    let mut group = criterion.benchmark_group("rpc_call");
    group.bench_function("version", |bencher| bencher.iter(call));
    group.bench_function("tcp", |bencher| bencher.iter(|| bare(echo)));
    group.finish();
    report(Comparison::of(ROUNDS, call, || bare(echo)));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn report(cost: Comparison) {
    println!("version    {cost} of a TCP connection with one round trip");
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A node in a thread of its own, for as long as the process lives.
fn serve(bundle: Bundle, state: &Path) -> Result<SocketAddr, Box<dyn Error>> {
    let state = state.to_owned();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || -> Result<(), Box<dyn Error + Send + Sync>> {
        runtime()?.block_on(async {
            let any_port = (Ipv4Addr::LOCALHOST, 0).into();
            let server = Server::bind(any_port, bundle, &state, Limits::default()).await?;
            tell.send(server.address()?)?;
            server.serve(std::future::pending()).await;
            Ok(())
        })
    });
    Ok(told.recv()?)
}

fn echo() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut message = [0; MESSAGE];
            let _ = stream.and_then(|mut stream| {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)
            });
        }
    });
    Ok(address)
}

fn bare(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[0; MESSAGE])?;
    stream.read_exact(&mut [0; MESSAGE])
}
