//! Who runs an operation, and whether they still live.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// A process, named so that no later one can be taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the machine (`uname -n`).
    pub host: String,
    /// Identifies the machine's run since it was switched on (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Inode of the process id namespace (`/proc/self/ns/pid`): in another one the same number is another process.
    pub pid_namespace: u64,
    /// Process id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// Its command line, for people; of values behind a `=`, and of commands for a shell, which may be secret, only that there are some.
    pub command: String,
}

/// What all processes that can see each other share.
struct Place {
    host: String,
    boot_id: String,
    pid_namespace: u64,
}

static HERE: LazyLock<Place> = LazyLock::new(|| Place {
    host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned()),
    pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino()),
});

impl Owner {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let arguments: Vec<_> = std::env::args_os()
            .map(|argument| without_value(&argument.to_string_lossy()))
            .collect();
        Self {
            host: HERE.host.clone(),
            boot_id: HERE.boot_id.clone(),
            pid_namespace: HERE.pid_namespace,
            pid,
            start_time: start_time(pid).unwrap_or(0),
            command: arguments.join(" "),
        }
    }

    /// Whether the process still runs. One that cannot be seen from here, on another machine or in another process id
    /// namespace, is taken to be alive; one of an earlier boot of this machine is not.
    pub fn is_alive(&self) -> bool {
        if self.boot_id != HERE.boot_id {
            return self.host != HERE.host;
        }
        self.pid_namespace != HERE.pid_namespace || start_time(self.pid) == Some(self.start_time)
    }
}

/// `0:size=1G,password=secret` becomes `0:size=…`, and `virsh --password secret` `'virsh …'`.
fn without_value(argument: &str) -> String {
    let mut words = argument.split_whitespace();
    let first = words.next().unwrap_or_default();
    match (first.split_once('='), words.next()) {
        (Some((key, _)), _) => format!("{key}=…"),
        (None, Some(_)) => format!("'{first} …'"),
        (None, None) => argument.to_owned(),
    }
}

/// When the process started; none when it is gone, or only waits for its parent to notice that.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command in field 2 may contain anything, `)` too, so fields are counted from the last one (proc_pid_stat(5)).
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_later_one_with_its_id_is_someone_else() {
        let me = Owner::current();
        assert_eq!(me.pid, std::process::id());
        assert!(me.start_time > 0 && !me.boot_id.is_empty() && me.pid_namespace > 0);
        assert!(me.is_alive());
        let reused = Owner {
            start_time: me.start_time - 1,
            ..me.clone()
        };
        assert!(!reused.is_alive());
        let earlier_boot = Owner {
            boot_id: "another".into(),
            ..me.clone()
        };
        assert!(!earlier_boot.is_alive());
        let elsewhere = Owner {
            host: "another".into(),
            ..earlier_boot
        };
        assert!(elsewhere.is_alive());
        let in_a_container = Owner {
            pid_namespace: 1,
            ..reused
        };
        assert!(in_a_container.is_alive());
    }

    #[test]
    fn a_child_is_dead_once_it_ended_even_before_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let owner = Owner {
            pid: child.id(),
            start_time: start_time(child.id()).unwrap(),
            ..Owner::current()
        };
        assert!(owner.is_alive());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while owner.is_alive() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!owner.is_alive());
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }

    #[test]
    fn a_command_line_is_kept_without_values() {
        let shown = [
            "grow",
            "0:size=1G,nas_password=a=b",
            "--token=x",
            "virsh --password x",
            " PASSWORD=x virsh",
            "",
        ]
        .map(without_value);
        assert_eq!(
            shown,
            ["grow", "0:size=…", "--token=…", "'virsh …'", "PASSWORD=…", ""]
        );
    }

    #[test]
    fn the_start_time_is_found_behind_any_command_name() {
        let fields = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(
            parse_start_time(&format!("7 (a) S) R (b) S {fields}")),
            Some(4242)
        );
        assert_eq!(parse_start_time(&format!("7 (x) Z {fields}")), None);
        assert_eq!(parse_start_time("7 (x) S 1"), None);
        assert_eq!(parse_start_time(""), None);
    }
}
