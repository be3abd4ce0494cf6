//! What makes no sense ends with status 2 and changes nothing; what is not there with status 1 and advice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use support::{Run, Sandbox};

#[test]
fn wrong_usage_is_status_2_and_makes_nothing() {
    let sandbox = Sandbox::new();
    for (arguments, message) in [
        ("", "Usage: gnt-disk"),
        ("frobnicate", "unrecognized subcommand 'frobnicate'"),
        ("list --frobnicate", "unexpected argument '--frobnicate'"),
        ("add", "<INSTANCE>"),
        (
            "add i -t zfs --disk 0:size=1G",
            "possible values: diskless, file, sharedfile",
        ),
        (
            "add i --file-driver x --disk 0:size=1G",
            "possible values: loop, blktap, blktap2",
        ),
        ("grow i 0", "<AMOUNT>"),
        (
            "grow i 0 much",
            "expected a number with an optional unit M, G or T",
        ),
        ("grow i 0 -5", "unexpected argument '-5'"),
        ("modify i", "--disk <CHANGE>"),
        ("snapshot i", "--disk <SNAPSHOT>"),
        ("list --detached i", "cannot be used with"),
        ("operation resume", "<ID|--all>"),
        ("operation abort 1 --all", "cannot be used with"),
        ("completions tcsh", "possible values: bash"),
        ("cluster init --es-timeout soon", "invalid digit"),
    ] {
        let error = sandbox.fails(2, arguments);
        assert!(error.contains(message), "{arguments}: {error}");
        assert!(!sandbox.state().exists(), "{arguments}");
    }
}

#[test]
fn usage_that_only_the_program_can_judge_is_status_2_too() {
    let sandbox = Sandbox::new();
    sandbox.ok("add i --disk 0:size=1M");
    for (arguments, message) in [
        ("add j --disk 0:size=2X", "--disk 0:size=2X\n                ^^"),
        ("add j --disk 0:mode=rw", "size is missing"),
        ("add j --disk 0:size=1M --disk 2:size=1M", "index 2 leaves a gap"),
        ("add a/b --disk 0:size=1M", "a/b"),
        (
            "add j -t file --disk 0:size=1M,colour=red",
            "colour is not a parameter of file disks",
        ),
        ("modify i --disk 0:size=1M", "'size' is not known here"),
        ("snapshot i --disk snapshot_name=x", "no disk is named"),
        (
            "snapshot i --disk 0:",
            "nothing is said of it: expected KEY=VALUE,…, such as snapshot_name=NAME",
        ),
        (
            "add j --disk 0:size=8388608T",
            "expected a size above 0 and below 8 EiB",
        ),
        (
            "add j --disk 0:size=1M,vg=x",
            "vg is only for plain and drbd disks, not ext",
        ),
        ("list -o name,nonsense", "there is no field 'nonsense'"),
        ("operation list -o nonsense", "the fields are id, kind"),
        (
            "provider actions ext -o nonsense",
            "the fields are action, kind, present",
        ),
        ("cluster modify", "nothing to change was given"),
        ("cluster modify -D plain:stripes=many", "stripes"),
        ("cluster modify -D plain:colour=red", "colour"),
        ("cluster modify -D stripes=2", "no disk template is named"),
        ("cluster init --name a/b", "a/b"),
    ] {
        let error = sandbox.fails(2, arguments);
        assert!(error.contains(message), "{arguments}: {error}");
        assert!(error.starts_with("error: "), "{arguments}: {error}");
    }
    assert_eq!(sandbox.ok("list --no-headers -o name").stdout, "i\n");
    for state in [OsStr::new(""), OsStr::from_bytes(b"/tmp/\xff")] {
        let run: Run = sandbox
            .command()
            .arg("list")
            .env("GNT_DISK_STATE", state)
            .output()
            .unwrap()
            .into();
        assert_eq!(run.status, 2, "{run:?}");
        assert!(run.stderr.contains("state"), "{run:?}");
    }
}

#[test]
fn what_is_not_there_is_status_1_with_advice() {
    let sandbox = Sandbox::new();
    sandbox.ok("add i --disk 0:size=1M");
    let unknown_instance =
        "error: there is no instance nobody\n  hint: 'gnt-disk list' shows the instances\n";
    for arguments in [
        "activate nobody",
        "deactivate nobody",
        "info nobody",
        "remove nobody",
        "list nobody",
        "grow nobody 0 1G",
        "modify nobody --disk remove",
        "snapshot nobody --disk 0:snapshot_name=x",
        "rename nobody somebody",
    ] {
        assert_eq!(sandbox.fails(1, arguments), unknown_instance, "{arguments}");
    }
    for (arguments, message) in [
        ("grow i 1 1G", "instance i has no disk 1; it has 1"),
        ("grow i 0 8388608T", "nothing in Linux is larger than 8 EiB"),
        ("modify i --disk attach:lost", "hint: 'gnt-disk list --detached'"),
        ("add i --disk 0:size=1M", "there is an instance i already"),
        (
            "add j -n elsewhere --disk 0:size=1M",
            "there is no node elsewhere",
        ),
        (
            "add j --disk 0:size=1M,provider=lost",
            "there is no provider lost",
        ),
        ("provider info lost", "hint: `gnt-disk provider list`"),
        ("provider diagnose ext lost", "there is no provider lost"),
        ("operation show 4711", "there is no operation 4711"),
        ("cluster init", "hint: 'gnt-disk cluster modify'"),
        (
            "cluster modify --search-path providers",
            "not a plain absolute path",
        ),
        (
            "cluster modify --disable-template ext",
            "there are disks that have it",
        ),
    ] {
        let error = sandbox.fails(1, arguments);
        assert!(error.contains(message), "{arguments}: {error}");
    }
}

#[test]
fn errors_stay_text_on_standard_error_with_json() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init");
    let error = sandbox.fails(1, "--json info nobody");
    assert!(error.contains("error: there is no instance nobody"), "{error}");
}

#[test]
fn help_teaches() {
    let sandbox = Sandbox::new();
    assert!(sandbox.ok("--version").stdout.starts_with("gnt-disk 0."));
    for (arguments, taught) in [
        ("--help", "Exit status:"),
        ("add --help", "gnt-disk add web1 --disk 0:size=10G"),
        ("modify --help", "attach:NAME"),
        ("cluster modify --help", "--search-path"),
        ("operation --help", "gnt-disk operation abort --all"),
        ("help add", ""),
    ] {
        if taught.is_empty() {
            sandbox.fails(2, arguments);
            continue;
        }
        let help = sandbox.ok(arguments).stdout;
        assert!(help.contains(taught), "{arguments}: {help}");
    }
    assert!(!sandbox.state().exists());
}

#[test]
fn completions_and_manual_pages_need_no_state() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.ok(&format!("completions {shell}")).stdout;
        assert!(script.contains("enabled-disk-templates"), "{shell}");
    }
    assert!(sandbox.ok("man").stdout.starts_with(".ie"));
    let dir = sandbox.path("man8");
    sandbox.ok(&format!("man {}", dir.display()));
    assert!(dir.join("gnt-disk-cluster-modify.8").exists());
    assert!(!sandbox.state().exists());
}

#[test]
fn hints_name_what_helps() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --node n1 --primary-ip 192.0.2.1");
    sandbox.ok("add w1 --disk 0:size=1M");
    sandbox.ok("add w2 --disk 0:size=1M");
    let bundle = sandbox.path("bundle");
    std::fs::write(&bundle, "").unwrap();
    let config = sandbox.path("config.data");
    sandbox.ok(&format!("export {}", config.display()));
    let ended = sandbox.json("operation list --all")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (arguments, status, hint) in [
        ("rename w1 w2".to_owned(), 1, "hint: choose another name"),
        (format!("import {}", config.display()), 1, "--replace"),
        ("wipe w1".to_owned(), 2, "--all"),
        (
            "node add n1 --bundle /nowhere/x".to_owned(),
            1,
            "hint: --readd gives it new keys",
        ),
        ("operation show nope".to_owned(), 1, "with -a also the others"),
        (
            format!("operation resume {ended}"),
            1,
            "cannot resume or abort what has ended",
        ),
        (
            format!("node add n2 --primary-ip 192.0.2.2 --bundle {}", bundle.display()),
            1,
            "hint: choose another name, or remove that file first",
        ),
    ] {
        let error = sandbox.fails(status, &arguments);
        assert!(error.contains(hint), "{arguments}: {error}");
    }
}

#[test]
fn ganetis_names_of_commands_and_yes_and_no_are_understood() {
    let sandbox = Sandbox::new();
    sandbox.ok("cluster init --node n1 --primary-ip 192.0.2.1 --exclusive-storage no");
    sandbox.ok("node add n2 --primary-ip 192.0.2.2");
    for (value, offline) in [
        ("yes", true),
        ("no", false),
        ("true", true),
        ("No", false),
        ("1", true),
    ] {
        let changed = sandbox.json(&format!("node modify n2 --offline {value}"));
        assert_eq!(changed["offline"], offline, "{value}");
    }
    let error = sandbox.fails(2, "node modify n2 --offline perhaps");
    assert!(error.contains("[possible values: yes, no]"), "{error}");
    sandbox.ok("cluster modify --exclusive-storage true");
    sandbox.ok("cluster modify --exclusive-storage no");
    sandbox.ok("add web --disk 0:size=1M");
    for command in ["activate-disks web", "grow-disk web 0 1M", "deactivate-disks web"] {
        sandbox.ok(command);
    }
    let error = sandbox.fails(1, "recreate-disks web");
    assert!(error.contains("still there"), "{error}");
}

#[test]
fn parameters_that_a_provider_does_not_declare_are_told() {
    let sandbox = Sandbox::new();
    let added = sandbox.ok("add -t ext web --disk 0:size=1M,foo=secret");
    assert!(
        added.stderr.contains("provider ext declares no parameter foo"),
        "{added:?}"
    );
    assert!(!added.stderr.contains("secret"), "{added:?}");
    let dir = sandbox.path("volumes");
    std::fs::create_dir(&dir).unwrap();
    let other = format!("add -t ext other --disk 0:size=1M,dir={}", dir.display());
    assert!(!sandbox.ok(&other).stderr.contains("declares no"));
}
