//! `place-views`: lets runs of operators work in the shape that needs the fewest reshapes around it.
//!
//! ```text
//! x [6, 4] ─ Reshape [2, 3, 4] ─ Exp ─ Reshape [6, 4] ─ Gemm        before: Exp works on [2, 3, 4]
//! x [6, 4] ─ Exp ─ Gemm                                             after: on [6, 4], as its neighbours do
//! ```
//! A `Reshape` moves nothing, but on a CPU each one is dispatched like any kernel, and a lowered transformer had more of them than
//! of all other operators. Legal because elementwise operators, norms and products over the last axis do not look at how the other
//! axes are divided; which those are, `ir::axes` says. On a card reshapes are free and nothing is done. Four steps, one file each:
//!
//! - `uncopy`: rows that were copied only to be added to tokens broadcast by themselves once the tokens are divided as the copies were;
//! - `join`: a view of a view reads the first tensor, and views that show what is there already go;
//! - `collapse`: transpositions of five and more axes are written over as few axes as they move, because convolutions over frames
//!   work on four;
//! - `redivide`: operators that hand a tensor of the same division to each other form a *cluster* (`cluster`); its division
//!   (`division`) is chosen among those that its neighbours have anyway, so that the number of reshapes around it (`border`) falls.
//!   Constants that broadcast are reshaped with the cluster.

mod border;
mod cluster;
mod collapse;
mod division;
mod join;
mod redivide;
mod uncopy;

use super::{Effect, Pass, PassCx, PassInfo, Property, Rewriter};
use crate::diag::Result;
use crate::ir::{Dim, NodeId, Op, OpGraph, Outlet};
use join::join;

pub(super) struct PlaceViews;

/// Shapes are fixed here.
type Shape = Vec<i64>;

static INFO: PassInfo = PassInfo {
    id: "place-views",
    summary: "work in the shape that needs the fewest reshapes",
    effect: Effect::Exact,
    asks: None,
    requires: &[Property::Bound, Property::Lowered, Property::Flat],
    establishes: &[],
    example: "
before:
model m(x: f32[6, 4]) -> y: f32[6, 5] = %3
  %0 = Reshape{shape=[2, 3, 4]}(%x) : f32[2, 3, 4]
  %1 = Exp(%0) : f32[2, 3, 4]
  %2 = Reshape{shape=[6, 4]}(%1) : f32[6, 4]
  %3 = Gemm{trans_b=true}(%2, {param m/w: f32[5, 4]}) : f32[6, 5]
after:
model m(x: f32[6, 4]) -> y: f32[6, 5] = %1
  %0 = Exp(%x) : f32[6, 4]
  %1 = Gemm{trans_b=true}(%0, {param m/w: f32[5, 4]}) : f32[6, 5]
",
};

impl Pass for PlaceViews {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_>, cx: &PassCx<'_>) -> Result<()> {
        if !cx.machine.target.forms.moves_views {
            return Ok(());
        }
        uncopy::uncopy(rw)?;
        join(rw)?;
        collapse::collapse(rw)?;
        join(rw)?;
        // Each change takes reshapes away, so this ends.
        while redivide::round(rw)? {
            join(rw)?;
        }
        Ok(())
    }
}

/// The extents of a tensor, if none is 0.
fn dims(graph: &OpGraph, o: Outlet) -> Option<Shape> {
    graph.ty(o).dims().filter(|d| d.iter().all(|x| *x > 0))
}

fn reshape(shape: &[i64]) -> Op {
    Op::Reshape { shape: shape.iter().map(|d| Dim::Const(*d)).collect() }
}

fn out(node: NodeId) -> Outlet {
    Outlet { node, slot: 0 }
}

fn is_view(graph: &OpGraph, id: NodeId) -> bool {
    matches!(graph.node(id).op, Op::Reshape { .. })
}

/// The tensor that a view shows.
fn behind(graph: &OpGraph, mut o: Outlet) -> Outlet {
    while is_view(graph, o.node) {
        o = graph.inputs_of(o.node)[0];
    }
    o
}
