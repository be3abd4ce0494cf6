//! What runs inside a guest, and what keeps a testbed together. Tests start it; people use `sh`.

use std::env;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["agent", spool] => gnt_testbed::agent::run(Path::new(spool)),
        ["keep", dir] => gnt_testbed::keeper::run(Path::new(dir)),
        _ => Err(io::Error::other("usage: gnt-testbed agent SPOOL | keep DIR")),
    }
}
