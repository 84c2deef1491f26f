//! How a session is made.

use std::path::PathBuf;

use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use serde::{Deserialize, Serialize};

use super::super::ffi;
use super::Runtime;
use crate::target::{self, Attach, Provider};

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
    /// Whether the buffer of a tensor that nobody reads any more is kept for the next tensor of its shape, even if that is long in coming. What
    /// ONNX Runtime does by itself; off, a run needs what its tensors need and no more.
    pub buffer_reuse: bool,
    /// Whether weights are copied into the kernels' own layout: twice the memory, faster products of few rows.
    pub prepacking: bool,
    /// Whether tensors and scratch come from [`Runtime::pool`] (CPU), where they are counted and limited.
    pub pool: bool,
    /// Without the pool: whether freed memory is kept for the next tensor (CPU).
    pub arena: bool,
    /// ONNX Runtime's names of rewrites that it must not do, such as `CommonSubexpressionElimination`.
    pub disabled_optimizers: Vec<String>,
    /// Extents that take the place of the model's named ones (ONNX Runtime's free-dimension overrides).
    pub dims: Vec<(String, i64)>,
    /// Where to write the model as ONNX Runtime has changed it. Its weights go to [`OPTIMIZED_WEIGHTS`] beside it.
    pub optimized_model: Option<PathBuf>,
    /// Start of the name of the profile to write.
    pub profile: Option<PathBuf>,
    /// What runs the nodes: the first takes what it has kernels for, and so on. None is the CPU alone.
    pub providers: Vec<Provider>,
    /// Fail rather than run single nodes on the CPU when other providers were asked for.
    pub forbid_cpu_nodes: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            spinning: false,
            optimization: Optimization::Disable,
            mem_pattern: false,
            buffer_reuse: false,
            prepacking: true,
            pool: true,
            arena: true,
            disabled_optimizers: vec![],
            dims: vec![],
            optimized_model: None,
            profile: None,
            providers: vec![],
            forbid_cpu_nodes: false,
        }
    }
}

impl SessionOptions {
    /// Does a plug-in take the model, which compiles it into nodes of its own?
    pub fn compiles(&self) -> bool {
        let plugin = |p: &Provider| target::row(&p.provider).is_ok_and(|row| matches!(row.attach, Attach::Plugin(_)));
        self.providers.iter().any(plugin)
    }

    /// The builder with everything but the providers; `others` are asked for beside the CPU's.
    pub(super) fn builder(&self, runtime: &Runtime, others: bool) -> ort::Result<SessionBuilder> {
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
        if !ffi::set_buffer_reuse(&mut builder, self.buffer_reuse)? {
            tracing::warn!("this ONNX Runtime keeps buffers for later tensors: runs need more memory than predicted");
        }
        if self.pool {
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
        if self.forbid_cpu_nodes && others {
            builder = builder.with_disable_cpu_fallback()?;
        }
        Ok(builder)
    }
}
