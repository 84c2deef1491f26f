//! Loads ONNX Runtime, makes sessions of models, runs them.
//!
//! * One library and one environment a process.
//! * Weights are used where they lie: a session on the CPU reads them from mapped files without a copy (see [`Weights`]).
//! * Inputs are read from, and outputs written to, memory of the caller.
//! * A provider that was asked for and cannot be had is an error; nothing runs elsewhere in silence.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::memory::AllocationDevice;
use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::value::{Outlet, ValueType};
use serde::{Deserialize, Serialize};

use super::external::{self, External};
use super::ffi::{self, AlignedBytes, HeldValue, MappedFile, Parts, Storage, Value};
use super::provision;
use super::tensor::{self, Tensor, TensorView, TensorViewMut};
use crate::diag::{Diagnostic, Result};
use crate::units::Bytes;
use crate::weights::DType;

/// The loaded library with its one environment.
#[derive(Clone, Debug)]
pub struct Runtime {
    env: Environment,
    path: Arc<Path>,
}

/// What is loaded: the library cannot be taken out of a process again, and it allows one environment.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library; a second call with the same path gives the same runtime.
    ///
    /// # Errors
    /// `runtime/telemetry` if [`ffi::disable_telemetry`] was not called, `runtime/wrong-version`, `runtime/load-failed`.
    pub fn load(library: &Path) -> Result<Self> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return if *runtime.path == *library { Ok(runtime.clone()) } else { Err(second_library(&runtime.path, library).into()) };
        }
        if !ffi::telemetry_is_off() {
            return Err(Diagnostic::new("runtime/telemetry", "ONNX Runtime was to be loaded with its telemetry on")
                .help("set ORT_DISABLE_TELEMETRY=1")
                .into());
        }
        let env = ort::init_from(library).map_err(|e| load_error(library, &e))?;
        let env = env.with_name("vidc").with_telemetry(false).build().map_err(|e| load_failed(library, &e))?;
        env.set_log_level(LogLevel::Warning);
        Ok(loaded.insert(Self { env, path: library.into() }).clone())
    }

    /// The library that is loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the library says about its build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// Limits the arena of every session made with [`SessionOptions::capped`] while the returned guard lives: they share `limit` bytes,
    /// beyond which a run fails with `runtime/out-of-memory`. One cap at a time. Weights and the tensors of the caller do not count.
    ///
    /// # Errors
    /// `runtime/session` if there is a cap already.
    pub fn cap_memory(&self, limit: Bytes) -> Result<MemoryCap> {
        let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
        ffi::register_capped_arena(&self.env, limit).map_err(|e| session_error(&e))?;
        Ok(MemoryCap { env: self.env.clone() })
    }
}

fn second_library(loaded: &Path, asked: &Path) -> Diagnostic {
    Diagnostic::new(
        "runtime/load-failed",
        format!("`{}` cannot be loaded: this process has `{}` already", asked.display(), loaded.display()),
    )
}

fn load_error(library: &Path, e: &ort::LoadDynamicError) -> Diagnostic {
    match e {
        ort::LoadDynamicError::BadVersion { version_str, .. } => provision::wrong_version(library, version_str, "loaded"),
        _ => load_failed(library, e),
    }
}

fn load_failed(library: &Path, e: &dyn Display) -> Diagnostic {
    Diagnostic::new("runtime/load-failed", format!("`{}` cannot be loaded: {e}", library.display()))
        .help("`vidc runtime status` shows which library is used and why")
}

/// The cap of [`Runtime::cap_memory`]; dropping it takes the cap away.
#[derive(Debug)]
pub struct MemoryCap {
    env: Environment,
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        if let Err(e) = ffi::unregister_capped_arena(&self.env) {
            tracing::warn!("the memory cap stays: {e}");
        }
    }
}

/// How much ONNX Runtime may change the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimization {
    /// Not at all: the planned nodes in the planned order.
    #[default]
    Disable,
    /// Constant folding and redundant nodes.
    Basic,
    /// Fusions of the provider too.
    Extended,
    /// Layouts too.
    All,
}

impl From<Optimization> for GraphOptimizationLevel {
    fn from(o: Optimization) -> Self {
        match o {
            Optimization::Disable => Self::Disable,
            Optimization::Basic => Self::Level1,
            Optimization::Extended => Self::Level2,
            Optimization::All => Self::All,
        }
    }
}

/// What runs the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The CPU.
    #[default]
    Cpu,
    /// An NVIDIA device by its index.
    Cuda {
        /// Its index.
        device: i32,
    },
    /// `TensorRT` on an NVIDIA device, what it does not take on CUDA.
    TensorRt {
        /// Its index.
        device: i32,
        /// Lets it use 16-bit floats.
        fp16: bool,
        /// Where engines are kept between processes.
        engine_cache: Option<PathBuf>,
    },
}

impl Provider {
    fn name(&self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Cuda { .. } => "CUDA",
            Self::TensorRt { .. } => "TensorRT",
        }
    }

    /// Device and index of its arena.
    fn arena(&self) -> (AllocationDevice<'static>, i32) {
        match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda { device } | Self::TensorRt { device, .. } => (AllocationDevice::CUDA, *device),
        }
    }

    /// The value of ONNX Runtime's run key for giving arena memory back.
    fn shrink_key(&self) -> String {
        match self {
            Self::Cpu => "cpu:0".into(),
            Self::Cuda { device } | Self::TensorRt { device, .. } => format!("cpu:0;gpu:{device}"),
        }
    }

    /// Without `error_on_failure` a provider that cannot be had would silently be the CPU.
    fn dispatch(&self, tf32: bool) -> Vec<ExecutionProviderDispatch> {
        let cuda = |device: &i32| ep::CUDA::default().with_device_id(*device).with_tf32(tf32).build().error_on_failure();
        match self {
            Self::Cpu => vec![],
            Self::Cuda { device } => vec![cuda(device)],
            Self::TensorRt { device, fp16, engine_cache } => {
                let mut trt = ep::TensorRT::default().with_device_id(*device).with_fp16(*fp16);
                if let Some(folder) = engine_cache {
                    trt = trt.with_engine_cache(true).with_engine_cache_path(folder.display());
                }
                vec![trt.build().error_on_failure(), cuda(device)]
            }
        }
    }
}

/// The file of weights beside [`SessionOptions::optimized_model`].
pub const OPTIMIZED_WEIGHTS: &str = "optimized.weights";

/// How a session is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of ONNX Runtime, set by name")]
pub struct SessionOptions {
    /// Threads of one operator; 0 lets ONNX Runtime decide.
    pub threads: usize,
    /// Whether idle threads wait busily. Faster on a machine of one's own, slower on a shared one.
    pub spinning: bool,
    /// What ONNX Runtime may change.
    pub optimization: Optimization,
    /// Whether the memory of a run is laid out in one block by the first run's pattern. Off for sessions that see several shapes.
    pub mem_pattern: bool,
    /// Whether weights are copied into the kernels' own layout: twice the memory, faster products of few rows.
    pub prepacking: bool,
    /// Whether freed memory is kept for the next tensor (CPU).
    pub arena: bool,
    /// Whether the arena is the one of [`Runtime::cap_memory`].
    pub capped: bool,
    /// ONNX Runtime's names of rewrites that it must not do, such as `CommonSubexpressionElimination`.
    pub disabled_optimizers: Vec<String>,
    /// Extents that take the place of the model's named ones (ONNX Runtime's free-dimension overrides).
    pub dims: Vec<(String, i64)>,
    /// Where to write the model as ONNX Runtime has changed it. Its weights go to [`OPTIMIZED_WEIGHTS`] beside it.
    pub optimized_model: Option<PathBuf>,
    /// Start of the name of the profile to write.
    pub profile: Option<PathBuf>,
    /// May CUDA take products of f32 tensors in tf32? ONNX Runtime does unless told not to.
    pub tf32: bool,
    /// What runs the nodes.
    pub provider: Provider,
    /// Fail rather than run single nodes on the CPU when another provider was asked for.
    pub forbid_cpu_nodes: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            spinning: false,
            optimization: Optimization::Disable,
            mem_pattern: false,
            prepacking: true,
            arena: true,
            capped: false,
            disabled_optimizers: vec![],
            dims: vec![],
            optimized_model: None,
            profile: None,
            tf32: true,
            provider: Provider::Cpu,
            forbid_cpu_nodes: false,
        }
    }
}

impl SessionOptions {
    fn builder(&self, runtime: &Runtime) -> ort::Result<SessionBuilder> {
        let mut builder = ort::session::Session::builder(&runtime.env)?
            .with_log_level(LogLevel::Warning)?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(self.spinning)?
            .with_optimization_level(self.optimization.into())?
            .with_memory_pattern(self.mem_pattern)?
            .with_prepacking(self.prepacking)?;
        // Said to the C interface, because naming `ep::CPU` switches the arena off unless it is told otherwise.
        ffi::set_arena(&mut builder, self.arena)?;
        if self.capped {
            builder = builder.with_env_allocators()?;
        }
        if !self.disabled_optimizers.is_empty() {
            builder = builder.with_disabled_optimizers(self.disabled_optimizers.join(";"))?;
        }
        for (name, extent) in &self.dims {
            builder = builder.with_dimension_override(name, *extent)?;
        }
        if let Some(path) = &self.optimized_model {
            builder = builder.with_optimized_model_path(path)?;
            ffi::set_config(&mut builder, "session.optimized_model_external_initializers_file_name", OPTIMIZED_WEIGHTS)?;
        }
        if let Some(prefix) = &self.profile {
            builder = builder.with_profiling(prefix)?;
        }
        if self.forbid_cpu_nodes && self.provider != Provider::Cpu {
            builder = builder.with_disable_cpu_fallback()?;
        }
        Ok(builder)
    }

    fn ready(&self, runtime: &Runtime) -> Result<SessionBuilder> {
        let builder = self.builder(runtime).map_err(|e| session_error(&e))?;
        self.with_provider(runtime, builder).map_err(|e| Box::new(provider_error(&self.provider, &e)))
    }

    fn with_provider(&self, runtime: &Runtime, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        match &self.provider {
            // A new builder has the policy "most efficient device": once any plugin provider is registered, a session that names no
            // device silently runs on the plugin. Naming the CPU's device pins it.
            Provider::Cpu => {
                let cpu = runtime.env.devices().filter(|d| d.ep().is_ok_and(|e| e == "CPUExecutionProvider"));
                Ok(builder.with_devices(cpu, None)?)
            }
            other => Ok(builder.with_execution_providers(other.dispatch(self.tf32))?),
        }
    }
}

/// The files that the external weights of models lie in, by the name that the models say.
///
/// On the CPU every weight is a view into its mapped file, from any offset; only one that starts at an address that is no
/// multiple of its element's size is copied. Other providers copy weights to their device while the session is made.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    files: BTreeMap<String, Arc<MappedFile>>,
    packed: Option<PrepackedWeights>,
}

impl Weights {
    /// No files.
    pub fn none() -> Self {
        Self::default()
    }

    /// Says that what models call `location` is `file`.
    #[must_use]
    pub fn with(mut self, location: impl Into<String>, file: Arc<MappedFile>) -> Self {
        self.files.insert(location.into(), file);
        self
    }

    /// Sessions made with this (or with a clone of it) share the packed copies of the weights that they have in common; with
    /// [`SessionOptions::prepacking`] there is otherwise one for each session.
    #[must_use]
    pub fn sharing_packed(mut self, _runtime: &Runtime) -> Self {
        self.packed = Some(PrepackedWeights::new());
        self
    }

    fn file(&self, weight: &External) -> Result<&Arc<MappedFile>> {
        let file = self.files.get(&weight.location).ok_or_else(|| {
            Diagnostic::new("runtime/weights", format!("weight `{}` lies in `{}`, which was not given", weight.name, weight.location))
        })?;
        let (len, need) = (file.bytes().len(), weight.range.end);
        if need > len {
            let message = format!("weight `{}` ends at byte {need} of `{}`, which has {len}", weight.name, file.path().display());
            return Err(Diagnostic::new("runtime/weights", message)
                .help("the file is cut short or is not the one that the plan was made with")
                .into());
        }
        Ok(file)
    }

    /// The folder that holds every file of the entries under the name that the model has for it.
    fn root(&self, entries: &[External]) -> Option<PathBuf> {
        let of = |e: &External| {
            let path = self.files.get(&e.location)?.path();
            let root = path.ancestors().nth(e.location.split('/').count())?;
            (root.join(&e.location) == path).then(|| root.to_path_buf())
        };
        let root = of(entries.first()?)?;
        let root = entries.iter().all(|e| of(e).as_ref() == Some(&root)).then_some(root)?;
        std::path::absolute(if root.as_os_str().is_empty() { Path::new(".") } else { &root }).ok()
    }

    /// A value over the bytes of `weight` in its file.
    fn value(&self, weight: &External) -> Result<HeldValue> {
        let file = self.file(weight)?;
        let bytes = &file.bytes()[weight.range.clone()];
        let aligned = bytes.as_ptr().addr().is_multiple_of(weight.dtype.size() as usize);
        let (storage, range) = if aligned {
            (Storage::Mapped(Arc::clone(file)), weight.range.clone())
        } else {
            (Storage::Copied(Arc::new(AlignedBytes::copied(bytes))), 0..bytes.len())
        };
        HeldValue::new(storage, range, weight.dtype, &weight.shape).map_err(|e| Box::new(session_error(&e)))
    }
}

/// Memory that a session reads from as long as it lives.
#[derive(Default)]
struct Held {
    values: Vec<HeldValue>,
    placeholders: Option<tempfile::TempDir>,
}

impl Held {
    /// Gives every external weight of the model to the session that is being made.
    ///
    /// A view stays in host memory, so it is for the CPU only; other providers take a copy to their device. Measured with 256 MiB
    /// of weights on the CPU: a view costs 5 ms and no memory, a copy 170 ms and the memory, handing over the whole file 450 ms and
    /// the memory.
    fn give(builder: &mut SessionBuilder, weights: &Weights, entries: &[External], provider: &Provider) -> Result<Self> {
        let views = *provider == Provider::Cpu;
        let add = if views { ffi::add_initializer } else { ffi::add_copied_initializer };
        let mut held = Self::default();
        for weight in entries {
            let value = weights.value(weight)?;
            add(builder, &weight.name, &value).map_err(|e| session_error(&e))?;
            held.values.push(value);
        }
        if views && !entries.is_empty() {
            // The loader insists that the named files exist, though every weight in them is replaced; and where it may fold constants
            // it reads them there. So it gets the files' own folder if they lie in one under their names, else empty files.
            match weights.root(entries) {
                Some(root) => set_folder(builder, &root)?,
                None => held.placeholders = Some(placeholders(builder, entries)?),
            }
        }
        Ok(held)
    }

    /// After the session is made: what it has copied or packed is not read again, what it reads comes back from the page cache.
    fn settle(&mut self) {
        self.placeholders = None;
        for value in &self.values {
            value.release_pages();
        }
    }
}

fn set_folder(builder: &mut SessionBuilder, folder: &Path) -> Result<()> {
    let key = "session.model_external_initializers_file_folder_path";
    ffi::set_config(builder, key, &folder.to_string_lossy()).map_err(|e| Box::new(session_error(&e)))
}

/// A folder of empty files by the names of the entries.
fn placeholders(builder: &mut SessionBuilder, entries: &[External]) -> Result<tempfile::TempDir> {
    let unwritable = |e: std::io::Error| {
        Diagnostic::new("io/unwritable", format!("cannot make a temporary folder: {e}")).help("set TMPDIR to a folder that can be written")
    };
    let folder = tempfile::Builder::new().prefix("vidc-weights-").tempdir().map_err(unwritable)?;
    for weight in entries {
        let file = folder.path().join(&weight.location);
        std::fs::create_dir_all(file.parent().unwrap_or(folder.path())).and_then(|()| std::fs::write(&file, b"")).map_err(unwritable)?;
    }
    set_folder(builder, folder.path())?;
    Ok(folder)
}

/// An input or output of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// The type of its elements; `None` if it is no tensor that vidc knows.
    pub dtype: Option<DType>,
    /// Its extents; `None` is one that the model leaves open.
    pub shape: Vec<Option<usize>>,
}

impl Port {
    fn of(outlet: &Outlet) -> Self {
        let name = outlet.name().to_owned();
        match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => {
                Self { name, dtype: tensor::of_onnx_runtime((*ty).into()), shape: shape.iter().map(|d| usize::try_from(*d).ok()).collect() }
            }
            _ => Self { name, dtype: None, shape: vec![] },
        }
    }

    /// A tensor to write it to, if the model says how large it is.
    fn allocate(&self) -> Option<Tensor> {
        Tensor::zeros(self.dtype?, &self.shape.iter().copied().collect::<Option<Vec<_>>>()?)
    }

    fn accept(&self, dtype: DType, shape: &[usize], bytes: usize) -> Result<()> {
        let fits = self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(|(want, got)| want.is_none_or(|w| w == *got));
        if self.dtype == Some(dtype) && fits && tensor::byte_len(dtype, shape) == Some(bytes) {
            return Ok(());
        }
        Err(Diagnostic::new(
            "runtime/binding",
            format!("`{}` is {:?} {:?}, and was given {dtype:?} {shape:?} in {bytes} bytes", self.name, self.dtype, self.shape),
        )
        .into())
    }
}

/// Steers a run from outside: shared by the threads that run and the one that may stop them, and by all sessions of a plan.
pub struct RunControl {
    options: ort::session::RunOptions,
}

impl RunControl {
    /// A run that nothing stops. With `shrink` the arena of that provider gives memory back when a run ends.
    ///
    /// # Errors
    /// `runtime/run` if ONNX Runtime has no memory for it.
    pub fn new(_runtime: &Runtime, shrink: Option<&Provider>) -> Result<Self> {
        let make = || -> ort::Result<Self> {
            let mut options = ort::session::RunOptions::new()?;
            if let Some(provider) = shrink {
                options.set("memory.enable_memory_arena_shrinkage", provider.shrink_key())?;
            }
            Ok(Self { options })
        };
        make().map_err(|e| Box::new(run_error(&e)))
    }

    /// Stops what runs, and all that is run with this control later, with `run/interrupted`. Takes effect between two nodes.
    pub fn cancel(&self) {
        if let Err(e) = self.options.terminate() {
            tracing::warn!("a run could not be stopped: {e}");
        }
    }

    /// Takes [`Self::cancel`] back.
    pub fn reset(&self) {
        if let Err(e) = self.options.unterminate() {
            tracing::warn!("a stopped run could not be allowed again: {e}");
        }
    }
}

/// What the arena of a session counts. With a memory pattern or the default growth, blocks are counted whole: the figure is exact only for a
/// capped arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaStats {
    /// Bytes in use now.
    pub in_use: Bytes,
    /// The most bytes in use at once.
    pub max_in_use: Bytes,
    /// Bytes held from the system.
    pub allocated: Bytes,
    /// The cap.
    pub limit: Bytes,
    /// How often a block was asked for.
    pub allocations: u64,
    /// How often memory was given back.
    pub shrinkages: u64,
}

/// A model that is ready to run.
pub struct Session {
    // Dropped in this order: the session reads what is held.
    inner: ort::session::Session,
    _held: Held,
    control: RunControl,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    provider: Provider,
    runtime: Runtime,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Session {
    /// Makes a session of an ONNX model (protobuf bytes). Its external weights are looked up in `weights` by location.
    ///
    /// # Errors
    /// `runtime/weights`, `runtime/provider-missing`, `runtime/session`, `runtime/out-of-memory`.
    pub fn load(runtime: &Runtime, model: &[u8], weights: &Weights, options: &SessionOptions) -> Result<Self> {
        let entries = external::entries(model)?;
        let mut builder = options.ready(runtime)?;
        if let Some(packed) = &weights.packed {
            builder = builder.with_prepacked_weights(packed).map_err(|e| session_error(&e))?;
        }
        let mut held = Held::give(&mut builder, weights, &entries, &options.provider)?;
        let inner = builder.commit_from_memory(model).map_err(|e| commit_error(&options.provider, &e))?;
        held.settle();
        Self::of(runtime, inner, held, options)
    }

    /// Makes a session the way any program does: ONNX Runtime reads the file and its external weights itself. Weights are copied
    /// unless it can map them. The file must be one that `onnx::check_external_data` accepts.
    ///
    /// # Errors
    /// `runtime/provider-missing`, `runtime/session`, `runtime/out-of-memory`.
    pub fn load_file(runtime: &Runtime, model: &Path, options: &SessionOptions) -> Result<Self> {
        let inner = options.ready(runtime)?.commit_from_file(model).map_err(|e| commit_error(&options.provider, &e))?;
        Self::of(runtime, inner, Held::default(), options)
    }

    fn of(runtime: &Runtime, inner: ort::session::Session, held: Held, options: &SessionOptions) -> Result<Self> {
        let ports = |outlets: &[Outlet]| outlets.iter().map(Port::of).collect();
        Ok(Self {
            inputs: ports(inner.inputs()),
            outputs: ports(inner.outputs()),
            inner,
            _held: held,
            control: RunControl::new(runtime, None)?,
            provider: options.provider.clone(),
            runtime: runtime.clone(),
        })
    }

    /// The inputs of the model in its order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs of the model in its order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The runtime that it was made with.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs once; returns the named outputs in that order.
    ///
    /// # Errors
    /// `runtime/binding`, `runtime/run`, `runtime/out-of-memory`.
    pub fn run(&mut self, inputs: &[(&str, TensorView<'_>)], outputs: &[&str]) -> Result<Vec<Tensor>> {
        self.run_controlled(inputs, outputs, None)
    }

    /// As [`Self::run`], under `control`.
    ///
    /// # Errors
    /// As [`Self::run`], and `run/interrupted`.
    pub fn run_controlled(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: &[&str],
        control: Option<&RunControl>,
    ) -> Result<Vec<Tensor>> {
        let mut tensors = outputs.iter().map(|name| Ok(find(&self.outputs, name)?.allocate())).collect::<Result<Vec<_>>>()?;
        let bound = outputs.iter().zip(&mut tensors).map(|(name, t)| (*name, t.as_mut().map(Tensor::view_mut))).collect();
        let fresh = self.run_values(inputs, bound, control)?;
        tensors
            .into_iter()
            .zip(fresh)
            .zip(outputs)
            .map(|((known, fresh), name)| known.or(fresh).ok_or_else(|| no_tensor(name).into()))
            .collect()
    }

    /// Runs once into tensors of the caller's.
    ///
    /// # Errors
    /// As [`Self::run_controlled`].
    pub fn run_into(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: Vec<(&str, TensorViewMut<'_>)>,
        control: Option<&RunControl>,
    ) -> Result<()> {
        let bound = outputs.into_iter().map(|(name, t)| (name, Some(t))).collect();
        self.run_values(inputs, bound, control).map(drop)
    }

    fn run_values(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        outputs: Vec<(&str, Option<TensorViewMut<'_>>)>,
        control: Option<&RunControl>,
    ) -> Result<Vec<Option<Tensor>>> {
        let inputs = bind_inputs(&self.inputs, inputs)?;
        let outputs = outputs.into_iter().map(|(name, t)| bind_output(&self.outputs, name, t)).collect::<Result<Vec<_>>>()?;
        let options = &control.unwrap_or(&self.control).options;
        let fresh = ffi::run(&mut self.inner, options, &inputs, &outputs).map_err(|e| run_error(&e))?;
        fresh.iter().map(|value| value.as_ref().map_or(Ok(None), copied)).collect()
    }

    /// Ends the profile and returns its file; see [`super::profile::profile_nodes`].
    ///
    /// # Errors
    /// `runtime/profile` if the session writes none.
    pub fn end_profile(&mut self) -> Result<PathBuf> {
        match self.inner.end_profiling() {
            Ok(file) if !file.is_empty() => Ok(file.into()),
            Ok(_) => Err(Diagnostic::new("runtime/profile", "the session was made without a profile").into()),
            Err(e) => Err(Diagnostic::new("runtime/profile", format!("the profile was not written: {e}")).into()),
        }
    }

    /// What the arena of the session's provider counts; all zero if it has none.
    ///
    /// # Errors
    /// `runtime/run` if the provider has no allocator that can be asked.
    pub fn arena_stats(&self) -> Result<ArenaStats> {
        let (device, index) = self.provider.arena();
        let counters = ffi::arena_counters(&self.inner, device, index).map_err(|e| run_error(&e))?;
        let get = |key: &str| counters.get(key).copied().unwrap_or(0);
        Ok(ArenaStats {
            in_use: Bytes(get("InUse")),
            max_in_use: Bytes(get("MaxInUse")),
            allocated: Bytes(get("TotalAllocated")),
            limit: Bytes(get("Limit")),
            allocations: get("NumAllocs"),
            shrinkages: get("NumArenaShrinkages"),
        })
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Result<&'a Port> {
    ports.iter().find(|p| p.name == name).ok_or_else(|| {
        let known = crate::diag::suggest(name, ports.iter().map(|p| p.name.as_str()));
        Diagnostic::new("runtime/binding", format!("the model has no `{name}`; {known}")).into()
    })
}

fn c_name(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Diagnostic::new("runtime/binding", format!("`{}` is no name", name.escape_debug())).into())
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|d| *d as i64).collect()
}

fn bind_inputs<'a>(ports: &[Port], inputs: &[(&str, TensorView<'a>)]) -> Result<Vec<(CString, Value<'a>)>> {
    if let Some(port) = ports.iter().find(|p| inputs.iter().all(|(name, _)| *name != p.name)) {
        return Err(Diagnostic::new("runtime/binding", format!("input `{}` was not given", port.name)).into());
    }
    let bind = |(name, t): &(&str, TensorView<'a>)| {
        find(ports, name)?.accept(t.dtype, t.shape, t.bytes.len())?;
        let value = Value::view(t.bytes, t.dtype, &dims(t.shape)).map_err(|e| run_error(&e))?;
        Ok((c_name(name)?, value))
    };
    inputs.iter().map(bind).collect()
}

fn bind_output<'a>(ports: &[Port], name: &str, tensor: Option<TensorViewMut<'a>>) -> Result<(CString, Option<Value<'a>>)> {
    let port = find(ports, name)?;
    let Some(t) = tensor else { return Ok((c_name(name)?, None)) };
    port.accept(t.dtype, t.shape, t.bytes.len())?;
    let value = Value::view_mut(t.bytes, t.dtype, &dims(t.shape)).map_err(|e| run_error(&e))?;
    Ok((c_name(name)?, Some(value)))
}

/// A tensor that ONNX Runtime allocated because its shape was not known before.
fn copied(value: &Value<'_>) -> Result<Option<Tensor>> {
    let Some(Parts { element, shape, bytes }) = value.tensor().map_err(|e| run_error(&e))? else { return Ok(None) };
    let shape: Vec<usize> = shape.into_iter().map(|d| usize::try_from(d).unwrap_or(0)).collect();
    Ok(Tensor::from_bytes(element, &shape, bytes))
}

fn no_tensor(name: &str) -> Diagnostic {
    Diagnostic::new("runtime/binding", format!("output `{name}` is no tensor that vidc knows"))
}

/// What ONNX Runtime and the allocators below it say when memory runs out.
const OUT_OF_MEMORY: [&str; 7] = [
    "BFCArena",
    "Failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

/// What it says when the provider is not there: no build, no library, no device.
const NO_PROVIDER: [&str; 4] =
    ["no CUDA-capable device", "CUDA driver version is insufficient", "Failed to load library", "invalid device ordinal"];

fn says(text: &str, any: &[&str]) -> bool {
    any.iter().any(|t| text.contains(t))
}

fn run_error<T>(e: &ort::Error<T>) -> Diagnostic {
    if e.message().contains("terminate flag") {
        return Diagnostic::new("run/interrupted", "the run was stopped");
    }
    words("runtime/run", "ONNX Runtime failed to run a model", e.message())
}

fn session_error<T>(e: &ort::Error<T>) -> Diagnostic {
    words("runtime/session", "ONNX Runtime refused a model", e.message())
}

fn provider_error<T>(provider: &Provider, e: &ort::Error<T>) -> Diagnostic {
    if *provider == Provider::Cpu {
        return session_error(e);
    }
    Diagnostic::new("runtime/provider-missing", format!("the {} provider was asked for and cannot be used", provider.name()))
        .note(e.message())
        .help("`--runtime PATH` takes the GPU build of ONNX Runtime; ask for the CPU to run there")
}

fn commit_error<T>(provider: &Provider, e: &ort::Error<T>) -> Diagnostic {
    if says(e.message(), &NO_PROVIDER) && !says(e.message(), &OUT_OF_MEMORY) { provider_error(provider, e) } else { session_error(e) }
}

fn words(code: &'static str, what: &str, said: &str) -> Diagnostic {
    let place = node_name(said).map_or(String::new(), |n| format!(" at node `{n}`"));
    let diagnostic = if says(said, &OUT_OF_MEMORY) {
        Diagnostic::new("runtime/out-of-memory", format!("memory ran out{place}")).help("compile for a smaller memory budget")
    } else {
        Diagnostic::new(code, format!("{what}{place}"))
    };
    diagnostic.note(said.trim())
}

/// The node that a message of ONNX Runtime names.
fn node_name(said: &str) -> Option<&str> {
    const BEFORE: [(&str, char); 4] = [("Name:'", '\''), ("node with name '", '\''), ("Node (", ')'), ("Node:", ' ')];
    let (rest, end) = BEFORE.into_iter().find_map(|(mark, end)| Some((said.split_once(mark)?.1, end)))?;
    rest.split(end).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
pub(crate) mod tests;
