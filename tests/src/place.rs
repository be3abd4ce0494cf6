//! Directories that tests work in, and providers that they may trust. Neither depends on the umask, nor on whose the
//! clone of the repository is.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A temporary directory that nobody else can change: what a test puts there is trusted until the test changes that.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir() -> io::Result<TempDir> {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
}

/// Copies a folder of providers of this repository (`providers` or `fixtures/providers`) to where nothing is yet. The
/// copies are root's, and nobody else can change them.
///
/// # Errors
/// When it cannot be done; as another user than root it never can.
pub fn copy_providers(folder: &str, to: &Path) -> io::Result<()> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let script = r#"cp -a "$0" "$1" && chown -Rh root:root "$1" && chmod -R u=rwX,go=rX "$1""#;
    let status = Command::new("sh")
        .args(["-c", script])
        .args([&from, to])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("copying {}: {status}", from.display())))
    }
}
