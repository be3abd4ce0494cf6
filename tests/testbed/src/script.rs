//! Running a script, in a guest or outside.

use std::time::Duration;

use gnt_process::{Command, RunError, Runner, Status, System};

use crate::error::Error;
use crate::wire::Output;

/// More than any test prints.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Runs a script with bash, `prefix` being a program in front of it with its arguments.
pub(crate) fn run(prefix: &[String], script: &str, timeout: Duration) -> Result<Output, RunError> {
    let words = prefix.iter().map(String::as_str).chain(["bash", "-c", script]);
    let mut words = words.map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let command = Command::change(program)
        .args(words)
        .timeout(timeout)
        .output_limit(OUTPUT_LIMIT);
    let (code, stdout, stderr) = match System.run(&command) {
        Ok(output) => {
            let code = match output.status {
                Status::Exited(code) => code,
                Status::Signaled(signal) => 128 + signal,
            };
            (Some(code), output.stdout, output.stderr)
        }
        Err(RunError::TimedOut { stdout, stderr, .. }) => (None, *stdout, *stderr),
        Err(error) => return Err(error),
    };
    Ok(Output {
        stdout: stdout.text().into_owned(),
        stderr: stderr.text().into_owned(),
        code,
    })
}

/// The same for a script that must succeed; `place` is where it runs. Returns what it printed.
pub(crate) fn ok(place: &str, prefix: &[String], script: &str, timeout: Duration) -> Result<String, Error> {
    let output = run(prefix, script, timeout)?;
    match output.success() {
        true => Ok(output.stdout),
        false => Err(Error::Script {
            place: place.to_owned(),
            script: script.to_owned(),
            output,
        }),
    }
}
