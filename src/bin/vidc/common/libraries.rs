//! ONNX Runtime and the libraries of providers: found, or fetched where the user agreed.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use super::system::cache_folder;
use super::{Failure, say};
use vidc::diag::Diagnostic;
use vidc::files::write_atomic;
use vidc::hwdb::detect::Host;
use vidc::optimize::self_check::self_check;
use vidc::runtime::provision::{LocatedLibrary, ProviderState, Provision};
use vidc::runtime::session::Runtime;
use vidc::target::{self, Library, Package, Provider, Target};
use vidc::units::Bytes;

/// Arguments about what may be fetched.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct FetchArgs {
    /// Fetch the libraries of the provider that is needed without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// ONNX Runtime with a provider that has shown on this machine that it computes what it is asked for.
pub(crate) fn runtime(row: &'static Target, explicit: Option<&Path>, fetch: FetchArgs) -> Result<(Runtime, LocatedLibrary), Failure> {
    let located = ready(row, explicit, fetch)?;
    let runtime = Runtime::load(&located.path)?;
    if !row.is_builtin() {
        checked(&runtime, row)?;
    }
    Ok((runtime, located))
}

/// ONNX Runtime for sessions of several models, with the providers of all.
pub(crate) fn runtime_of(providers: &[Provider], explicit: Option<&Path>, fetch: FetchArgs) -> Result<Runtime, Failure> {
    let rows = providers.iter().map(|p| target::row(&p.provider)).collect::<vidc::diag::Result<Vec<_>>>()?;
    // A build that has a provider runs everything that the usual build runs, so it comes first.
    let own = |row: &&Target| row.software.is_some_and(|s| matches!(s.library, Library::Runtime(_)));
    let first = rows.iter().copied().find(own).unwrap_or(target::row("cpu")?);
    let (runtime, _) = self::runtime(first, explicit, fetch)?;
    for row in rows.into_iter().filter(|row| !row.is_builtin() && *row != first) {
        ready(row, explicit, fetch)?;
        checked(&runtime, row)?;
    }
    Ok(runtime)
}

/// Checks the arithmetic of a provider, once for each version of it on each machine.
fn checked(runtime: &Runtime, row: &'static Target) -> Result<(), Failure> {
    let package = |p: &&Package| format!("{} {}", p.name, p.version);
    let packages: Vec<String> = row.software.iter().flat_map(|s| s.packages.iter().map(package)).collect();
    let said = format!("{}\n{}\n{}\n", packages.join("\n"), runtime.build_info(), Host::detect().words());
    let note = cache_folder()?.join("checked").join(format!("{}.txt", row.key));
    if std::fs::read_to_string(&note).is_ok_and(|text| text == said) {
        return Ok(());
    }
    say(&format!("checking what {} computes (once on this machine)", row.name));
    self_check(runtime, row)?;
    // A note that cannot be written costs the next run the same seconds.
    if note.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
        let _ = write_atomic(&note, |w| w.write_all(said.as_bytes()));
    }
    Ok(())
}

/// The ONNX Runtime that a provider needs, with the provider's own libraries beside it. Those are fetched if the user agrees.
pub(crate) fn ready(row: &'static Target, explicit: Option<&Path>, fetch: FetchArgs) -> Result<LocatedLibrary, Failure> {
    let provision = Provision::here(explicit)?;
    let status = provision.provider(row);
    if status.state == ProviderState::NotInstalled && !provision.names_a_build_with(row) {
        agree(row, status.download, fetch)?;
        provision.install_provider(row, None, &mut say)?;
    }
    Ok(provision.locate_for(row, &mut say)?)
}

/// Asks whether the libraries of a provider may be fetched.
pub(crate) fn agree(row: &Target, download: Option<u64>, fetch: FetchArgs) -> Result<(), Failure> {
    if fetch.yes {
        return Ok(());
    }
    let size = Bytes(download.unwrap_or(0));
    let refused = |why: &str| {
        let message = format!("the libraries of {} ({size}) are not here, and {why}", row.name);
        let d = Diagnostic::new("runtime/not-agreed", message);
        Failure::from(d.help(format!("`vidc runtime install --provider {} --yes` fetches them", row.key)))
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused("nobody can be asked whether to fetch them"));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "Fetch the libraries of {} ({size}, once) from the Python package index? [y/N] ", row.name);
    let _ = err.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused("were not to be fetched")) }
}
