//! Paths of this checkout.

use std::path::{Path, PathBuf};

/// Top directory of the checkout that this was built from.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("the package lies two levels below the workspace")
}

/// `.dev`, which holds everything that `cargo dev` creates.
pub fn dev() -> PathBuf {
    root().join(".dev")
}
