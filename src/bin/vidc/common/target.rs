//! What a GRAPH or PLANDIR argument names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::{Budget, DimArgs, GraphArgs, Pair, ProviderArgs, settings};
use super::system::{free_memory, free_on_gpu};
use super::{Failure, say};
use vidc::diag::{Diagnostic, SourceText};
use vidc::files::{open_regular, read_start};
use vidc::hwdb::{Database, DeviceKind, Host, Machine, Probe, THIS_CPU};
use vidc::ir::Program;
use vidc::passes::Planned;
use vidc::passes::manager::Debugging;
use vidc::runtime::provision;
use vidc::units::Bytes;

/// What an argument names: a graph or a plan.
pub(crate) enum Named {
    /// The text of a graph.
    Graph(Arc<SourceText>),
    /// A folder.
    Plan(PathBuf),
}

/// Does a name mean an ONNX model?
pub(crate) fn model(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")).then_some(path)
}

/// What belongs to graphs and what to models must not be mixed: `--set` is for graphs, `--dim` for models.
pub(crate) fn check_kind(is_model: bool, set: &[Pair], dims: &DimArgs) -> Result<(), Failure> {
    match (is_model, set.is_empty(), dims.dims.is_empty()) {
        (true, false, _) => Err(Failure::Usage("`--set` sets parameters of a graph; the sizes of a model are bound with --dim".into())),
        (false, _, false) => Err(Failure::Usage("`--dim` binds sizes of an ONNX model; parameters of a graph are set with --set".into())),
        _ => Ok(()),
    }
}

/// A folder is a plan, a file is a graph, and any other name is a graph inside vidc.
pub(crate) fn target(name: &str) -> Result<Named, Failure> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Named::Plan(path.into()));
    }
    Ok(Named::Graph(if path.exists() { read(path)? } else { vidc::spec::builtin(name)? }))
}

fn read(path: &Path) -> Result<Arc<SourceText>, Failure> {
    let (mut file, len) = open_regular(path)?;
    let name = path.display().to_string();
    if len > vidc::spec::MAX_BYTES as u64 {
        let message = format!("`{name}` has {len} bytes; a graph has at most {}", vidc::spec::MAX_BYTES);
        return Err(Diagnostic::new("spec/too-large", message).help("name a graph file").into());
    }
    let bytes = read_start(path, &mut file, len)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Diagnostic::new("spec/syntax", format!("`{name}` is not text in UTF-8, so it is no graph")).help("name a graph file in YAML")
    })?;
    Ok(Arc::new(SourceText { name, text }))
}

/// The program of a graph argument.
pub(crate) fn program(args: &GraphArgs) -> Result<Program, Failure> {
    match target(&args.graph)? {
        Named::Graph(source) => load(&source, &args.set),
        Named::Plan(folder) => {
            let d = Diagnostic::new("io/unreadable", format!("`{}` is a folder, and a graph file is wanted", folder.display()));
            Err(d.help("name the graph that the plan was made of").into())
        }
    }
}

/// The program of a graph.
pub(crate) fn load(source: &Arc<SourceText>, set: &[Pair]) -> Result<Program, Failure> {
    Ok(vidc::models::load(source, &settings(set))?)
}

/// The files that a graph (or plan, or model) argument and a `--hw` argument name.
pub(crate) fn named_files(target: &str, hw: Option<&str>) -> Vec<PathBuf> {
    let profile = hw.filter(|key| Path::new(key).extension().is_some_and(|e| e == "yaml"));
    [Some(target), profile].into_iter().flatten().map(PathBuf::from).filter(|p| p.is_file()).collect()
}

/// Says that a device has less memory than was allowed.
pub(crate) fn note_memory(asked: Option<Bytes>, machine: &Machine) {
    if let Some(asked) = asked.filter(|asked| *asked > machine.memory) {
        say(&format!("note: {} has {} of memory, so --memory {asked} allows no more than that", machine.key, machine.memory));
    }
}

/// A budget in bytes. What is free is known of this machine alone.
pub(crate) fn budget(asked: Option<Budget>, machine: &Machine, device: u32) -> Result<Option<Bytes>, Failure> {
    let free = match asked {
        None => return Ok(None),
        Some(Budget::Size(size)) => return Ok(Some(size)),
        Some(Budget::Free) if machine.kind == DeviceKind::Gpu => free_on_gpu(device),
        Some(Budget::Free) => Some(()).filter(|()| machine.key == THIS_CPU).and_then(|()| free_memory()),
    };
    let free = free.ok_or_else(|| {
        let message = format!("how much memory is free on {} is not known here", machine.key);
        Diagnostic::new("tune/memory-not-known", message).help("name a size, such as `--memory 8GiB`; `auto` is for this machine")
    })?;
    say(&format!("{free} are free on {}", machine.key));
    Ok(Some(free))
}

/// The program as it is planned.
pub(crate) fn planned(program: &Program, machine: &Machine) -> Result<Planned, Failure> {
    Ok(Planned::of(program, machine, &Debugging::default())?)
}

/// The profiles of this user, for the ONNX Runtime that runs use.
pub(crate) fn database() -> Database {
    let database = Database::of_this_user();
    match engine_version() {
        Some(version) => database.with_engine(version),
        None => database,
    }
}

/// The version of the library that a run finds, as far as its name says it.
fn engine_version() -> Option<String> {
    let named = ["VIDC_ORT", "ORT_DYLIB_PATH"].into_iter().find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()));
    match named {
        None => Some(provision::VERSION.into()),
        Some(path) => Path::new(&path).file_name()?.to_str()?.split_once(".so.").map(|(_, version)| version.to_owned()),
    }
}

/// The machine of `--hw` with the provider of `--provider`.
pub(crate) fn machine(key: &str, provider: &ProviderArgs) -> Result<Machine, Failure> {
    Ok(Machine::with_provider(&database().load(key)?, provider.provider.as_deref())?)
}

/// The machine of `--hw` with every provider that fits it.
pub(crate) fn machines(key: &str) -> Result<Vec<Machine>, Failure> {
    let profile = database().load(key)?;
    Ok(profile.targets().into_iter().map(|target| Machine::on(&profile, target)).collect())
}

/// Says what is doubtful about what is predicted for a machine, and what it lacks to run that, if vidc cannot start its provider.
pub(crate) fn note_doubts(machine: &Machine) {
    for what in machine.target.missing().into_iter().chain(machine.target.doubts) {
        say(&format!("note: {what}"));
    }
    note_unmeasured(machine);
}

/// Says once that nothing was measured on this machine, or not with what runs now.
pub(crate) fn note_unmeasured(machine: &Machine) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if machine.key != THIS_CPU {
        return;
    }
    let probe = database().probe(&Host::detect());
    let what = match &probe {
        Ok(Probe::Missing) => "nothing was measured on this machine",
        Ok(Probe::Stale(why)) => why,
        Ok(Probe::Fits(_)) | Err(_) => return,
    };
    if !SAID.swap(true, Ordering::Relaxed) {
        say(&format!("note: {what}: times may be off by {UNMEASURED}; `vidc hw probe` measures it in about a minute"));
    }
}

/// How far predictions of times on a processor are off of which nothing was measured, in words: whole models took 1.5 to 1.7 times what the
/// shipped figures of the class say on one machine (`hwdb/README.md`).
const UNMEASURED: &str = "a factor of 2";
