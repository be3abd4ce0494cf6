//! The driver on recorded answers of real tools.

use std::path::Path;

/// What a real drbd said: see `fixtures/drbd/README.md`.
pub(super) fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/drbd")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
