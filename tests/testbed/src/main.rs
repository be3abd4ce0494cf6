//! What runs inside a guest, what keeps a testbed together, and what people look inside with.

use std::env;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use gnt_testbed::machine::Machine;
use gnt_testbed::{Error, Output, Testbed, agent, keeper, people};

const USAGE: &str = "\
usage:
  gnt-testbed up GUESTS [MODULE…]   starts guests, each with two disks of 4 GiB, until this is interrupted
  gnt-testbed sh DIR SCRIPT         runs a script outside, in the networks of the testbed in DIR
  gnt-testbed sh DIR/n1 SCRIPT      runs a script in one of its guests
  gnt-testbed end DIR               ends a testbed that was kept
  gnt-testbed machine DIR NODE DEV  is a virtual machine on a node, whose disk is the device DEV there
  gnt-testbed hand-over DIR N1 N2   moves that machine from one node to another
  gnt-testbed check DIR DEV         tells whether the device DEV has all that the machine wrote
  gnt-testbed agent SPOOL           is the inside of a guest
  gnt-testbed keep DIR              is what a testbed lives as long as";

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["up", guests, ref modules @ ..] => up(guests, modules),
        ["sh", place, script] => people::sh(Path::new(place), script).map(|output| show(&output)),
        ["end", dir] => people::end(Path::new(dir)).map(|()| ExitCode::SUCCESS),
        ["machine", dir, node, device] => Machine::new(Path::new(dir))
            .run(node, Path::new(device))
            .map(|()| ExitCode::SUCCESS),
        ["hand-over", dir, from, to] => Machine::new(Path::new(dir))
            .hand_over(from, to)
            .map(|()| ExitCode::SUCCESS),
        ["check", dir, device] => Machine::new(Path::new(dir))
            .check(Path::new(device))
            .map(|blocks| show_text(&format!("{blocks}\n"))),
        ["agent", spool] => agent::run(Path::new(spool)).map(|()| ExitCode::SUCCESS),
        ["keep", dir] => keeper::run(Path::new(dir)).map(|()| ExitCode::SUCCESS),
        _ => Err(Error::Usage(USAGE)),
    };
    done.unwrap_or_else(|error| {
        // Nobody is left to tell if it cannot be written.
        let _ = writeln!(io::stderr(), "{error:?}");
        ExitCode::FAILURE
    })
}

fn up(guests: &str, modules: &[&str]) -> Result<ExitCode, Error> {
    let guests = guests.parse().map_err(|_| Error::Usage(USAGE))?;
    let size = gnt_config::Mebibytes(4096);
    let plan = Testbed::plan("up").guests(guests).disk(size).disk(size);
    let testbed = plan.modules(modules.iter().copied()).start()?;
    let _ = writeln!(io::stdout(), "{}", testbed.dir().display());
    loop {
        thread::park();
    }
}

fn show_text(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn show(output: &Output) -> ExitCode {
    let _ = io::stdout().write_all(output.stdout.as_bytes());
    let _ = io::stderr().write_all(output.stderr.as_bytes());
    let code = output.code.and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}
