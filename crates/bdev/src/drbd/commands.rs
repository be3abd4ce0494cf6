//! The command lines of DRBD 8.4's tools (`drbdsetup-8.4(8)`, `drbdmeta-8.4(8)`), as Ganeti's `DRBD84CmdGenerator` makes them.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use gnt_config::params::{DrbdDeviceParams, Protocol};
use gnt_config::{Mebibytes, Secret};
use gnt_process::Command;

use super::error::DrbdError;

/// What a query may take: a kernel that holds it up longer does not answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How the nodes prove to each other who they are (`constants.DRBD_HMAC_ALG`).
const HMAC_ALGORITHM: &str = "md5";

/// How much of a metadata volume is wiped before metadata is made on it: `drbdmeta` refuses to write over a file system, whose
/// marks lie here.
const WIPED: Mebibytes = Mebibytes(1);

/// One end of a replication link, as the tools take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) family: &'static str,
    pub(super) ip: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(ip: IpAddr, port: u16) -> Self {
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        Self {
            family,
            ip: ip.to_string(),
            port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.family, self.ip, self.port)
    }
}

/// How two nodes are connected.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    pub(super) local: Address,
    pub(super) remote: Address,
    pub(super) secret: &'a Secret,
    pub(super) protocol: Protocol,
    /// Both nodes may be primary at once.
    pub(super) two_primaries: bool,
}

/// A resource has one volume, and is named after its minor.
pub(super) fn resource(minor: u32) -> String {
    format!("resource{minor}")
}

pub(super) fn device_path(minor: u32) -> String {
    format!("/dev/drbd{minor}")
}

pub(super) fn status() -> Command {
    query("cat").arg("/proc/drbd").output_limit(4 << 20)
}

pub(super) fn usermode_helper() -> Command {
    query("cat").arg("/sys/module/drbd/parameters/usermode_helper")
}

/// The size of a device in sectors of 512 bytes.
pub(super) fn sectors(minor: u32) -> Command {
    query("cat").arg(format!("/sys/block/drbd{minor}/size"))
}

pub(super) fn kernel_log() -> Command {
    query("dmesg").output_limit(4 << 20)
}

/// What it prints has the shared secret in it.
pub(super) fn show(minor: u32) -> Command {
    setup_query("show").arg(minor.to_string())
}

/// The data generations of an attached device.
pub(super) fn generations(minor: u32) -> Command {
    setup_query("get-gi").arg(minor.to_string())
}

/// The data generations that metadata tells of while no device uses it.
pub(super) fn stored_generations(minor: u32, meta: &Path) -> Command {
    on_metadata(query("drbdmeta"), minor, meta).arg("get-gi")
}

pub(super) fn wipe(meta: &Path) -> Command {
    let mut of = std::ffi::OsString::from("of=");
    of.push(meta);
    Command::change("dd")
        .args(["if=/dev/zero".into(), of])
        .args(["bs=1M".to_owned(), format!("count={}", WIPED.0)])
        .args(["oflag=direct", "conv=notrunc,fsync"])
}

pub(super) fn create_metadata(minor: u32, meta: &Path) -> Command {
    on_metadata(Command::change("drbdmeta").arg("--force"), minor, meta).arg("create-md")
}

/// The commands that give a minor its local disk. What the activity log of a crashed primary says is applied first, or the disk
/// could not be attached.
pub(super) fn attach(
    minor: u32,
    data: &Path,
    meta: &Path,
    size: Mebibytes,
    params: &DrbdDeviceParams,
) -> Result<[Command; 4], DrbdError> {
    let apply = on_metadata(Command::change("drbdmeta"), minor, meta).arg("apply-al");
    let mut attach = setup("attach")
        .arg(minor.to_string())
        .arg(data)
        .arg(meta)
        .args(["flexible", "--on-io-error=detach"]);
    if size > Mebibytes(0) {
        attach = attach.args(["--size".to_owned(), mebibytes(size)]);
    }
    let barriers = &params.disabled_barriers;
    let off = [
        (params.disable_meta_flush, "--md-flushes=no"),
        (barriers.without_flushes(), "--disk-flushes=no"),
        (barriers.without_drain(), "--disk-drain=no"),
        (barriers.without_barriers(), "--disk-barrier=no"),
    ];
    attach = attach.args(off.into_iter().filter_map(|(off, option)| off.then_some(option)));
    attach = attach.args(words("disk-custom", &params.disk_custom)?);
    let [resource, volume] = new_minor(minor);
    Ok([resource, volume, apply, attach])
}

/// The commands that connect a minor to its peer.
pub(super) fn connect(
    minor: u32,
    connection: &Connection<'_>,
    params: &DrbdDeviceParams,
) -> Result<[Command; 3], DrbdError> {
    let mut connect = setup("connect")
        .args([
            resource(minor),
            connection.local.to_string(),
            connection.remote.to_string(),
        ])
        .args(["--protocol", connection.protocol.into()])
        .args(["--after-sb-0pri", "discard-zero-changes"])
        .args(["--after-sb-1pri", "consensus"]);
    if connection.two_primaries {
        connect = connect.arg("--allow-two-primaries");
    }
    if !connection.secret.expose().is_empty() {
        connect = connect
            .args(["--cram-hmac-alg", HMAC_ALGORITHM, "--shared-secret"])
            .secret_arg(connection.secret.expose());
    }
    connect = connect.args(words("net-custom", &params.net_custom)?);
    let [resource, volume] = new_minor(minor);
    Ok([resource, volume, connect])
}

/// The command that lets both nodes of a connection be primary, or only one, while it stays. The peer is told.
pub(super) fn primaries(local: &str, remote: &str, protocol: Protocol, two: bool) -> Command {
    let two = if two { "yes" } else { "no" };
    let options = setup("net-options").args([local, remote]);
    options
        .args(["--protocol", protocol.into()])
        .arg(format!("--allow-two-primaries={two}"))
}

/// The command that says how fast to synchronise.
pub(super) fn sync_params(minor: u32, params: &DrbdDeviceParams) -> Result<Command, DrbdError> {
    let options = setup("disk-options").arg(minor.to_string());
    if !params.dynamic_resync {
        return Ok(options.args(["--resync-rate".to_owned(), params.resync_rate.to_string()]));
    }
    if params.c_plan_ahead == 0 {
        return Err(DrbdError::NoPlan);
    }
    let controller = [
        ("--c-plan-ahead", params.c_plan_ahead),
        ("--c-fill-target", params.c_fill_target),
        ("--c-delay-target", params.c_delay_target),
        ("--c-max-rate", params.c_max_rate),
        ("--c-min-rate", params.c_min_rate),
    ];
    let words = controller.map(|(option, value)| [option.to_owned(), value.to_string()]);
    Ok(options.args(words.into_iter().flatten()))
}

pub(super) fn pause_sync(minor: u32) -> Command {
    setup("pause-sync").arg(minor.to_string())
}

pub(super) fn resume_sync(minor: u32) -> Command {
    setup("resume-sync").arg(minor.to_string())
}

/// `force` declares the data of this node good, whatever it is.
pub(super) fn primary(minor: u32, force: bool) -> Command {
    let primary = setup("primary").arg(minor.to_string());
    primary.args(force.then_some("--force"))
}

pub(super) fn secondary(minor: u32) -> Command {
    setup("secondary").arg(minor.to_string())
}

/// Declares the data of this node lost. Nothing here runs it: it is for people.
pub(super) fn invalidate(minor: u32) -> Command {
    setup("invalidate").arg(minor.to_string())
}

pub(super) fn detach(minor: u32) -> Command {
    setup("detach").arg(minor.to_string())
}

/// The ends of the connection as text, as it may be another one than ours.
pub(super) fn disconnect(local: &str, remote: &str) -> Command {
    setup("disconnect").args([local, remote])
}

pub(super) fn down(resource: &str) -> Command {
    setup("down").arg(resource)
}

pub(super) fn resize(minor: u32, size: Mebibytes) -> Command {
    setup("resize").args([minor.to_string(), "--size".to_owned(), mebibytes(size)])
}

/// Both may be there already.
fn new_minor(minor: u32) -> [Command; 2] {
    let resource = resource(minor);
    [
        setup("new-resource").arg(&resource),
        setup("new-minor").args([resource, minor.to_string(), "0".to_owned()]),
    ]
}

fn setup(verb: &str) -> Command {
    Command::change("drbdsetup").arg(verb)
}

fn setup_query(verb: &str) -> Command {
    query("drbdsetup").arg(verb)
}

fn query(program: &str) -> Command {
    Command::query(program).timeout(QUERY_TIMEOUT)
}

fn on_metadata(drbdmeta: Command, minor: u32, meta: &Path) -> Command {
    let at = drbdmeta.args([device_path(minor), "v08".to_owned()]);
    at.arg(meta).arg("flex-external")
}

fn mebibytes(size: Mebibytes) -> String {
    format!("{}m", size.0)
}

/// Options that a parameter gives as a shell would read them.
fn words(parameter: &'static str, text: &str) -> Result<Vec<String>, DrbdError> {
    shell_words::split(text).map_err(|source| DrbdError::Options { parameter, source })
}

#[cfg(test)]
mod tests {
    use gnt_config::Object;
    use gnt_config::params::Parameters as _;
    use gnt_tests::oracle::cases;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        dual_primary: bool,
        family: String,
        force: bool,
        minor: u32,
        params: Object,
        port: u16,
        secret: Option<String>,
        size: Mebibytes,
        version: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lines {
        detach: Vec<Value>,
        disconnect: Vec<Value>,
        down: Vec<Value>,
        init_meta: Vec<Value>,
        local: Vec<Vec<Value>>,
        net: Vec<Vec<Value>>,
        pause: Vec<Value>,
        primary: Vec<Value>,
        resize: Vec<Value>,
        resume: Vec<Value>,
        secondary: Vec<Value>,
        show: Vec<Value>,
        sync: Vec<Value>,
    }

    /// Numbers stand for their text.
    fn text(line: &[Value]) -> Vec<String> {
        let word = |word: &Value| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
        line.iter().map(word).collect()
    }

    fn argv(command: &Command) -> Vec<String> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    fn ends(family: &str, ips: [&str; 2], port: u16) -> [Address; 2] {
        let family = ["ipv4", "ipv6"].into_iter().find(|known| *known == family);
        let ip = |ip: &str| Address {
            family: family.unwrap(),
            ip: ip.to_owned(),
            port,
        };
        ips.map(ip)
    }

    #[test]
    fn oracle_drbd84_commands() {
        let (data, meta) = (Path::new("/dev/v/d"), Path::new("/dev/v/m"));
        for case in cases("drbd84_commands").unwrap() {
            let input: Input = case.input().unwrap();
            let expected: Lines = case.output_as().unwrap();
            let name = &case.name;
            let same = |command: &Command, line: &[Value]| assert_eq!(argv(command), text(line), "{name}");
            let minor = input.minor;
            let params = DrbdDeviceParams::from_object(&input.params).unwrap();
            assert!(input.version.starts_with("8.4."), "{name}");

            same(&detach(minor), &expected.detach);
            same(&down(&resource(minor)), &expected.down);
            same(&create_metadata(minor, meta), &expected.init_meta);
            same(&pause_sync(minor), &expected.pause);
            same(&resume_sync(minor), &expected.resume);
            same(&primary(minor, input.force), &expected.primary);
            same(&secondary(minor), &expected.secondary);
            same(&resize(minor, input.size), &expected.resize);
            same(&show(minor), &expected.show);
            match sync_params(minor, &params) {
                Ok(command) => same(&command, &expected.sync),
                // Ganeti has the words of its error in the place of the command.
                Err(DrbdError::NoPlan) => assert_eq!(expected.sync.len(), 1, "{name}"),
                Err(other) => panic!("{name}: {other}"),
            }
            // These were asked for with addresses of version 4, whatever the family.
            let [local, remote] = ends(&input.family, ["10.0.0.1", "10.0.0.2"], input.port);
            let line = disconnect(&local.to_string(), &remote.to_string());
            same(&line, &expected.disconnect);

            let commands = attach(minor, data, meta, input.size, &params).unwrap();
            assert_eq!(commands.len(), expected.local.len(), "{name}");
            let lines = expected.local.iter();
            commands
                .iter()
                .zip(lines)
                .for_each(|(command, line)| same(command, line));

            let ips = match input.family.as_str() {
                "ipv6" => ["fd00::1", "fd00::2"],
                _ => ["10.0.0.1", "10.0.0.2"],
            };
            let ips = ips.map(|ip| ip.parse().unwrap());
            let secret = Secret::new(input.secret.clone().unwrap_or_default());
            let connection = Connection {
                local: Address::new(ips[0], input.port),
                remote: Address::new(ips[1], input.port),
                secret: &secret,
                protocol: params.protocol,
                two_primaries: input.dual_primary,
            };
            let commands = connect(minor, &connection, &params).unwrap();
            assert_eq!(commands.len(), expected.net.len(), "{name}");
            let lines = expected.net.iter();
            commands
                .iter()
                .zip(lines)
                .for_each(|(command, line)| same(command, line));
            if let Some(secret) = input.secret {
                let shown = format!("{} {:?}", commands[2], commands[2]);
                let secret_word = format!(" {secret} ");
                assert!(
                    !shown.contains(&secret_word) && shown.contains("<redacted>"),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn options_that_no_shell_reads_and_a_controller_that_is_off_are_refused() {
        let params = DrbdDeviceParams {
            net_custom: "--ping-int '2".to_owned(),
            dynamic_resync: true,
            c_plan_ahead: 0,
            ..DrbdDeviceParams::default()
        };
        let address = Address::new("10.0.0.1".parse().unwrap(), 1);
        let connection = Connection {
            local: address.clone(),
            remote: address,
            secret: &Secret::new("s"),
            protocol: Protocol::C,
            two_primaries: false,
        };
        let error = connect(0, &connection, &params).unwrap_err();
        assert!(
            error.to_string().starts_with("the disk parameter net-custom"),
            "{error}"
        );
        assert!(matches!(sync_params(0, &params), Err(DrbdError::NoPlan)));
    }
}
