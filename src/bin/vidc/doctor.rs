//! `vidc doctor`: what a bug report should say.

use serde_json::json;

use crate::common::system::{free_disk, free_memory, plans_folder};
use crate::common::{Done, Out};
use crate::runtime::status_text;
use vidc::hwdb::detect::Host;
use vidc::runtime::provision;

/// Runs the command.
pub(crate) fn run(out: &Out) -> Done {
    let host = Host::detect();
    let status = provision::status(None)?;
    let (memory, folder) = (free_memory(), plans_folder()?);
    let disk = free_disk(&folder);
    let known = |b: Option<vidc::units::Bytes>| b.map_or_else(|| "not known".into(), |b| b.to_string());
    let text = || {
        format!(
            "vidc {} on {} {}\nmachine: {}\nfree memory: {}\nfree disk: {} at {}\n\nONNX Runtime\n{}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
            host.words(),
            known(memory),
            known(disk),
            folder.display(),
            status_text(&status)
        )
    };
    let fields = || {
        json!({
            "vidc": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "machine": { "model": host.model, "cores": host.cores, "memory_bytes": host.memory, "avx2": host.avx2, "avx512": host.avx512 },
            "free_memory_bytes": memory,
            "free_disk_bytes": disk,
            "cache": folder,
            "runtime": status,
        })
    };
    out.result(text, fields);
    Ok(())
}
