//! Looking into a testbed that was left running.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;
use crate::guest_dir::GuestDir;
use crate::keeper;
use crate::script;
use crate::wire::Output;

/// Nobody waits longer.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a script in the guest whose directory this is, or outside if it is that of a testbed.
///
/// # Errors
/// When there is no such thing, or no answer.
pub fn sh(place: &Path, text: &str) -> Result<Output, Error> {
    let guest = GuestDir::new(place.to_owned());
    match guest.spool().exists() {
        true => guest.sh(text, TIMEOUT, || true),
        false => Ok(script::run(&keeper::enter_dir(place)?, text, TIMEOUT)?),
    }
}

/// Ends a testbed.
///
/// # Errors
/// When that cannot be done.
pub fn end(dir: &Path) -> Result<(), Error> {
    let file = dir.join("keeper.pid");
    let text = fs::read_to_string(&file).map_err(Error::file(&file))?;
    let pid = text.parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::file(&file)(io::ErrorKind::InvalidData.into()))?;
    // With it ends all that is in its namespaces.
    kill_process(pid, Signal::KILL).map_err(|error| Error::file(&file)(error.into()))?;
    fs::remove_dir_all(dir).map_err(Error::file(dir))
}

/// Says how to look into a testbed that stays.
pub(crate) fn tell_kept(dir: &Path, binary: &Path) {
    let (dir, binary) = (dir.display(), binary.display());
    let text = format!(
        "This testbed stays. Look inside with\n  {binary} sh {dir}/n1 'dmesg | tail; lvs; cat /proc/drbd'\n  \
         {binary} sh {dir} 'ip address'\nand end it with\n  {binary} end {dir}\n"
    );
    tell(&text);
}

pub(crate) fn tell(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}
