//! The passes: one file a pass, one order, one way to change a graph.
//!
//! A pass looks at one model's operator graph, edits it through the [`Rewriter`] and gives a reason for each edit. What has
//! several answers worth searching is a [`Knob`] that the pass offers and the tuner answers. [`pipeline`] is the order, with a
//! reason per line; [`Manager`](manager) runs it, verifies after every pass and writes the [`Trace`].

pub mod assign_precision;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod case_tests;
mod chunk_feed_forward;
mod chunk_frames;
mod eliminate;
mod fold_affine;
mod fold_constants;
mod fold_cross_attention;
mod fuse_residual;
mod fuse_upsample;
mod guidance;
pub mod hoist;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod journal_tests;
mod knob;
pub mod manager;
mod merge_linears;
mod place_views;
mod program;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod property_tests;
mod raise;
mod regions;
mod residency;
mod rewriter;
mod schedule;
mod select_kernels;
mod sink_repeat;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod tile_attention;
pub mod trace;
mod unroll_chunks;

use serde::Serialize;

pub use guidance::Guidance;
pub use knob::{Choices, Effect, Knob, Scope};
pub use manager::{Checks, Compiled, compile, offered_knobs};
pub use program::Planned;
pub use residency::{RESIDENCY, residency, residency_knob};
pub use rewriter::{Edit, Fact, Remark, Rewriter, Why};
pub use trace::{PassRecord, Status, Trace};

use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::OpGraph;

/// What a pass is.
#[derive(Debug, Serialize)]
pub struct PassInfo {
    /// Stable kebab-case name.
    pub id: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The strongest effect that it can have.
    pub effect: Effect,
    /// Properties that must hold before.
    pub requires: &'static [Property],
    /// Properties that hold afterwards.
    pub establishes: &'static [Property],
    /// Operator graph before and after, as canonical text of the example that `tests` runs.
    pub example: &'static str,
}

/// What earlier passes guarantee to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// No symbolic dims are left.
    Bound,
    /// Element types are final.
    Typed,
    /// Only operators that the provider runs.
    Lowered,
    /// No `ForChunks` is left.
    Flat,
    /// No dead nodes; producers stand before consumers.
    Scheduled,
}

/// What passes may look at: the device and the answers.
#[derive(Clone, Copy, Debug)]
pub struct PassCx<'a> {
    /// The device.
    pub machine: &'a Machine,
    /// The answers.
    pub choices: &'a Choices,
}

/// A transformation of one model.
pub trait Pass: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static PassInfo;

    /// The questions that it can answer for this model; the graph is bound and not yet transformed by later passes.
    fn knobs(&self, _graph: &OpGraph, _machine: &Machine) -> Vec<Knob> {
        Vec::new()
    }

    /// Edits the graph.
    ///
    /// # Errors
    /// A bug of the pass, or something that the model does not allow.
    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()>;
}

/// The order of the passes over one model.
pub fn pipeline() -> Vec<Box<dyn Pass>> {
    vec![
        // First the arithmetic that no choice depends on, on the smallest graph.
        Box::new(fold_constants::FoldConstants),
        // Then what the rest looks for is given its name: in imported graphs it is spelled out.
        Box::new(raise::Raise),
        // Before anything looks at attention: half of the sites vanish.
        Box::new(fold_cross_attention::FoldCrossAttention),
        // Folded attention leaves projections of repeated rows behind.
        Box::new(sink_repeat::SinkRepeat),
        Box::new(eliminate::Eliminate),
        // Where dead readers and copies are gone, as a tensor that changes may have one reader only; before types, which are the same
        // on both sides of a constant here.
        Box::new(fold_affine::FoldAffine),
        // Types before forms: which kernel is chosen depends on them, and casts must not end up inside a chunk.
        Box::new(assign_precision::AssignPrecision),
        // Where products over a few rows stand is no matter of knobs; they are still raised and one kind.
        Box::new(merge_linears::MergeLinears),
        // Splitting acts on raised operators, whose meaning is still visible; a site belongs to the first that takes it.
        Box::new(tile_attention::TileAttention),
        Box::new(chunk_feed_forward::ChunkFeedForward),
        Box::new(chunk_frames::ChunkFrames),
        // After splitting, so that bodies are lowered once and not once a chunk.
        Box::new(select_kernels::SelectKernels),
        Box::new(unroll_chunks::UnrollChunks),
        // Lowering leaves reshapes of constants behind.
        Box::new(fold_constants::FoldConstants),
        Box::new(eliminate::Eliminate),
        // Takes convolutions that the next one could take: it saves more.
        Box::new(fuse_upsample::FuseUpsample),
        // Looks through reshapes, so it does not depend on where they end up.
        Box::new(fuse_residual::FuseResidual),
        // All reshapes are there now.
        Box::new(place_views::PlaceViews),
        Box::new(eliminate::Eliminate),
        Box::new(schedule::Schedule),
    ]
}
