//! An ext action as a multiple of the bare cost of running the same script: finding and checking the provider, its environment,
//! process, parsing, verification and log included.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use enumset::EnumSet;
use gnt_benches::{Comparison, quick};
use gnt_extstorage::{Action, ExtStorage, SearchPath, Volume};
use gnt_process::{DEFAULT_PATH, System};
use serde_json::Map;

const ROUNDS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let device = Loop::attach(&directory.path().join("volume"))?;
    let provider = directory.path().join("providers/bench");
    write_provider(&provider, &device.0)?;
    let path = SearchPath::new([directory.path().join("providers")]);
    let ext = ExtStorage::new(
        Arc::new(System),
        path,
        directory.path().join("log"),
        directory.path(),
    );
    let params = Map::new();
    let volume = Volume {
        provider: "bench",
        name: "0d9e2fd4.ext.disk0",
        uuid: Some("3d1a"),
        cname: None,
        instance: Some("web1"),
        index: Some(0),
        size_mib: 1,
        params: &params,
    };

    let mut criterion = quick();
    let mut group = criterion.benchmark_group("ext_action");
    group.bench_function("attach", |bencher| bencher.iter(|| ext.attach(&volume)));
    group.bench_function("setinfo", |bencher| {
        bencher.iter(|| ext.setinfo(&volume, "text", None))
    });
    group.bench_function("script", |bencher| {
        bencher.iter(|| bare(&provider.join("attach")))
    });
    group.finish();

    ext.attach(&volume)?;
    report(
        "attach",
        Comparison::of(ROUNDS, || ext.attach(&volume), || bare(&provider.join("attach"))),
    );
    report(
        "setinfo",
        Comparison::of(
            ROUNDS,
            || ext.setinfo(&volume, "text", None),
            || bare(&provider.join("setinfo")),
        ),
    );
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn report(action: &str, cost: Comparison) {
    println!("{action:<10} {cost} of spawning the script and waiting for it");
}

fn bare(script: &Path) -> std::io::Result<std::process::Output> {
    // As small an environment as the action's, which the shell would otherwise have to read.
    Command::new(script)
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .stdin(Stdio::null())
        .output()
}

fn write_provider(directory: &Path, device: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("parameters.list"), "")?;
    for action in EnumSet::<Action>::all() {
        let script = directory.join(action.to_string());
        let output = match action {
            Action::Attach => format!("#!/bin/sh\necho {}\n", device.display()),
            _ => "#!/bin/sh\n:\n".to_owned(),
        };
        fs::write(&script, output)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// A loop device of one mebibyte, for as long as the benchmark runs.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path) -> Result<Self, Box<dyn Error>> {
        fs::File::create(file)?.set_len(1 << 20)?;
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()?;
        match output.status.success() {
            true => Ok(Self(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nobody is left to tell if it fails.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
