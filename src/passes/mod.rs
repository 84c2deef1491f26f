//! The passes: one file a pass, one order, one way to change a graph.
//!
//! A pass looks at a program, or at one model's operator graph, edits it through the [`Rewriter`] and gives a reason for each edit.
//! What has several answers worth searching is a [`Knob`] that the pass offers and the tuner answers. [`fn@order`] is the order, with a
//! reason per line; the [`manager`] runs it, verifies after every pass and writes the [`Trace`].

mod assign_precision;
mod assign_sessions;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod case_tests;
mod edit;
mod eliminate;
mod fold_affine;
mod fold_constants;
mod fold_cross_attention;
mod fuse_residual;
mod fuse_upsample;
mod guidance;
mod hoist;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod journal_tests;
mod keep_layout;
mod knob;
mod level;
pub mod manager;
mod merge_linears;
mod place_loads;
mod place_views;
mod placement;
mod program;
mod program_edit;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod program_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod property_tests;
mod raise;
mod remark;
mod reorder;
mod rewriter;
mod schedule;
mod select_kernels;
mod sink_repeat;
mod stays;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod tile;
mod tile_attention;
pub mod trace;
mod unroll_chunks;
mod written_attention;

use serde::Serialize;

pub use edit::Edit;
pub use knob::{Answer, Choices, Effect, Knob, KnobId, QualityLoss, Scope};
pub use level::IrLevel;
pub use manager::{Checks, Compiled, Debugging, compile_graph, offered_knobs};
pub use place_loads::RESIDENCY;
pub use placement::elsewhere;
pub use program::{Arranged, Lowered, Passes, Planned};
pub use program_edit::ProgramEdit;
pub use remark::{Fact, Remark, Why};
pub use rewriter::Rewriter;
pub use trace::{PassRecord, Status, Trace};

use crate::diag::Result;
use crate::hwdb::Machine;
use crate::ir::{OpGraph, Program};

/// What a pass is.
#[derive(Debug, Serialize)]
pub struct PassInfo {
    /// Stable kebab-case name.
    pub id: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The strongest effect that it can have.
    pub effect: Effect,
    /// What its knobs are questions about, if it offers any.
    pub asks: Option<Scope>,
    /// Properties that must hold before.
    pub requires: &'static [Property],
    /// Properties that hold afterwards.
    pub establishes: &'static [Property],
    /// What it works on before and after, as canonical text of the example that `tests` runs.
    pub example: &'static str,
}

/// What earlier passes guarantee to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// Every call has a session.
    Placed,
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
    /// What is left out; for a pass that runs others over a part.
    pub debugging: &'a Debugging,
}

/// A transformation of one unit of a level: of a program, or of the operator graph of one model.
pub trait Pass<L: IrLevel = OpGraph>: Send + Sync {
    /// What it is.
    fn info(&self) -> &'static PassInfo;

    /// The questions that it can answer for this unit, as the passes before it leave it.
    fn knobs(&self, _unit: &L, _machine: &Machine) -> Vec<Knob> {
        Vec::new()
    }

    /// Edits the unit.
    ///
    /// # Errors
    /// A bug of the pass, or something that the unit does not allow.
    fn run(&self, rw: &mut Rewriter<'_, L>, cx: &PassCx<'_>) -> Result<()>;
}

/// A pass on its level.
pub enum Leveled {
    /// Works on the whole program.
    Pipeline(Box<dyn Pass<Program>>),
    /// Works on the operator graph of each session, sizes bound.
    Operator(Box<dyn Pass>),
}

impl Leveled {
    /// What the pass is.
    pub fn info(&self) -> &'static PassInfo {
        match self {
            Self::Pipeline(pass) => pass.info(),
            Self::Operator(pass) => pass.info(),
        }
    }

    fn pipeline(pass: impl Pass<Program> + 'static) -> Self {
        Self::Pipeline(Box::new(pass))
    }

    fn operator(pass: impl Pass + 'static) -> Self {
        Self::Operator(Box::new(pass))
    }
}

/// The order of all passes: first those over the pipeline, which decide what is run, then those over the graph of each session.
pub fn order() -> Vec<Leveled> {
    use Leveled as L;
    vec![
        // Cuts models, whatever is answered later: what loops need not repeat stands before them.
        L::pipeline(hoist::Hoist),
        // All calls and their sizes are there now.
        L::pipeline(assign_sessions::AssignSessions),
        // Decides the size that a session's graph is bound to.
        L::pipeline(guidance::Guidance),
        // Every session is known, and who runs when.
        L::pipeline(place_loads::PlaceLoads),
        // From here on over each session. First the arithmetic that no choice depends on, on the smallest graph.
        L::operator(fold_constants::FoldConstants),
        // Then what the rest looks for is given its name: in imported graphs it is spelled out.
        L::operator(raise::Raise),
        // Before anything looks at attention: half of the sites vanish.
        L::operator(fold_cross_attention::FoldCrossAttention),
        // Folded attention leaves projections of repeated rows behind.
        L::operator(sink_repeat::SinkRepeat),
        L::operator(eliminate::Eliminate),
        // Where dead readers and copies are gone, as a tensor that changes may have one reader only; before types, which are the same
        // on both sides of a constant here.
        L::operator(fold_affine::FoldAffine),
        // On what no choice depends, so that each of these changes its own part alone.
        L::operator(reorder::Reorder),
        // Types before forms: which kernel is chosen depends on them, and casts must not end up inside a chunk.
        L::operator(assign_precision::AssignPrecision),
        // Where products over a few rows stand is no matter of knobs; they are still raised and one kind.
        L::operator(merge_linears::MergeLinears),
        // Splitting acts on raised operators, whose meaning is still visible; a site belongs to the first that takes it.
        L::operator(tile_attention::TileAttention),
        L::operator(tile::Tile),
        // After splitting, so that bodies are lowered once and not once a chunk.
        L::operator(select_kernels::SelectKernels),
        L::operator(unroll_chunks::UnrollChunks),
        // Lowering leaves reshapes of constants behind.
        L::operator(fold_constants::FoldConstants),
        L::operator(eliminate::Eliminate),
        // Takes convolutions that the next one could take: it saves more.
        L::operator(fuse_upsample::FuseUpsample),
        // Looks through reshapes, so it does not depend on where they end up.
        L::operator(fuse_residual::FuseResidual),
        // All reshapes are there now.
        L::operator(place_views::PlaceViews),
        // The views that are left.
        L::operator(keep_layout::KeepLayout),
        L::operator(eliminate::Eliminate),
        L::operator(schedule::Schedule),
    ]
}

/// The passes over one operator graph, in their order: for models that come without a pipeline.
pub fn operators() -> Vec<Box<dyn Pass>> {
    let operator = |pass| if let Leveled::Operator(pass) = pass { Some(pass) } else { None };
    order().into_iter().filter_map(operator).collect()
}

/// Runs all passes over a program: the one way from what a user wrote to what a plan runs. Knobs without an answer, here or in the graph,
/// have their plain one.
///
/// # Errors
/// What a pass or the binding of sizes returns. That there is such a knob with such an answer is what `tuner::estimate` checks.
pub fn compile(program: &Program, machine: &Machine, choices: &Choices, debugging: &Debugging) -> Result<Lowered> {
    let planned = Planned::of(program, machine, debugging)?;
    planned.compile(&planned.given(choices), Checks::Full)
}
