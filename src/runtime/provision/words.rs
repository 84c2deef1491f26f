//! What the rooms of provisioning say alike.

use std::io;
use std::path::Path;

use crate::diag::Diagnostic;
use crate::target::{Build, Package};

/// The diagnostic of a cache that cannot be written.
pub(super) fn unwritable(path: &Path, e: &io::Error) -> Diagnostic {
    Diagnostic::new("io/unwritable", format!("cannot write `{}`: {e}", path.display()))
        .help("set XDG_CACHE_HOME to a folder that can be written, or name a library with `--runtime PATH`")
}

/// The way without pip.
pub(super) fn by_hand(diagnostic: Diagnostic, package: &Package, build: &Build) -> Diagnostic {
    diagnostic.help(format!(
        "by hand: get the wheel {} {} for {} from the Python package index and give it, or a folder with it, to `vidc runtime install --from`; \
         or name an ONNX Runtime library of your own with `--runtime PATH` or VIDC_ORT",
        package.name, package.version, build.platform
    ))
}
