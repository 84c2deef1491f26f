//! The Rewriter takes failed edits back, and the manager holds passes to their word.

use super::manager::run_passes;
use super::*;
use crate::diag::Diagnostic;
use crate::hwdb;
use crate::ir::op::Unary;
use crate::ir::{DType, Dim, NodeId, Op, Outlet, parse, text, verify};
use crate::weights::WeightExpr;

const MODEL: &str = "
model m(x: f32[2, 3]) -> y: f32[2, 3] = %2, z: f32[2, 3] = %1
  %0 = Exp(%x) : f32[2, 3]
  %1 = Mul(%0, {param m/w: f32[3]}) : f32[2, 3]
  %2 = Add(%1, %0) : f32[2, 3]
";

fn node(graph: &OpGraph, name: &str) -> NodeId {
    graph.nodes().into_iter().find(|id| graph.node(*id).name == name).unwrap()
}

/// Runs an edit at %1 that must fail, and looks whether anything is left of it.
fn fails(edit: impl FnOnce(&mut Edit<'_>, NodeId) -> Result<()>) {
    let mut graph = parse::parse(MODEL).unwrap();
    let (before, nodes, site) = (text::annotated(&graph), graph.len(), node(&graph, "n1"));
    let mut rw = Rewriter::new("m", &mut graph);
    rw.apply(site, None, Why::new("test"), |e| edit(e, site)).unwrap_err();
    assert!(rw.finish().is_empty(), "a failed edit leaves no remark");
    assert_eq!((text::annotated(&graph), graph.len()), (before, nodes));
    verify(&graph).unwrap();
}

fn stop() -> Result<()> {
    Err(Box::new(Diagnostic::new("internal/bug", "on purpose")))
}

#[test]
fn a_failed_edit_leaves_the_graph_as_it_was() {
    let out = |node| Outlet { node, slot: 0 };
    // A replacement of another type, after a node and a constant were added.
    fails(|e, site| {
        let w = e.weight(WeightExpr::literal_f32(&[1], &[2.0])?);
        let wide = e.add(Op::Reshape { shape: vec![Dim::Const(6)] }, &[out(site)], "")?;
        assert_eq!(e.graph().ty(w).rank(), 1);
        e.replace(out(site), wide)
    });
    // Readers and outputs moved, twice, and the old node removed.
    fails(|e, site| {
        let input = e.graph().inputs_of(site)[0];
        let a = e.add(Op::Unary(Unary::Neg), &[input], "a")?;
        e.replace(out(site), a)?;
        let b = e.add(Op::Unary(Unary::Neg), &[a], "b")?;
        e.redirect(a, b, &[b.node]);
        e.remove(site)?;
        stop()
    });
    // An operator changed in place, and one that does not fit.
    fails(|e, site| {
        e.set_op(site, Op::Binary(crate::ir::op::Binary::Sub))?;
        e.set_op(site, Op::MatMul)
    });
    // A node that is still read.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not general over the edit's lifetime")]
    fails(|e, site| e.remove(site));
}

#[test]
fn an_edit_that_changes_nothing_leaves_no_remark() {
    let mut graph = parse::parse(MODEL).unwrap();
    let site = node(&graph, "n1");
    let mut rw = Rewriter::new("m", &mut graph);
    rw.apply(site, None, Why::new("test"), |e| e.reinfer(site)).unwrap();
    assert!(rw.finish().is_empty());
}

#[test]
fn a_chain_is_removed_from_its_end_in_one_edit() {
    let mut graph = parse::parse(MODEL).unwrap();
    let (site, sum) = (node(&graph, "n1"), node(&graph, "n2"));
    let mut rw = Rewriter::new("m", &mut graph);
    let edit = |e: &mut Edit<'_>| {
        let x = Outlet { node: e.graph().inputs()[0], slot: 0 };
        for node in [site, sum] {
            let new = e.add(Op::Unary(Unary::Neg), &[x], "")?;
            e.replace(Outlet { node, slot: 0 }, new)?;
        }
        e.remove(sum)?;
        e.remove(site)
    };
    rw.apply(site, None, Why::new("test"), edit).unwrap();
    assert_eq!(rw.finish().len(), 1);
    assert!(!graph.contains(site) && !graph.contains(sum));
    verify(&graph).unwrap();
}

/// A pass that does what it is told, under the name of a test.
struct Liar {
    info: &'static PassInfo,
    run: fn(&mut Rewriter<'_>) -> Result<()>,
}

impl Pass for Liar {
    fn info(&self) -> &'static PassInfo {
        self.info
    }

    fn run(&self, rw: &mut Rewriter<'_>, _: &PassCx<'_>) -> Result<()> {
        (self.run)(rw)
    }
}

const fn info(requires: &'static [Property]) -> PassInfo {
    PassInfo { id: "liar", summary: "for tests", effect: Effect::Exact, asks: None, requires, establishes: &[Property::Flat], example: "" }
}

/// The code of the error when these are all the passes.
fn check(info: &'static PassInfo, run: fn(&mut Rewriter<'_>) -> Result<()>, expect: &str) {
    let graph = parse::parse(MODEL).unwrap();
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    let passes: Vec<Box<dyn Pass>> = vec![Box::new(Liar { info, run })];
    let got = run_passes(
        &passes,
        &graph,
        &PassCx { machine: &machine, choices: &Choices::default(), debugging: &Debugging::default() },
        Checks::Full,
    );
    assert_eq!(got.map_or_else(|d| d.code, |_| ""), expect);
}

#[test]
fn a_pass_is_held_to_its_word() {
    static FREE: PassInfo = info(&[]);
    static NEEDY: PassInfo = info(&[Property::Bound, Property::Lowered]);
    check(&FREE, |_| Ok(()), "");
    check(&NEEDY, |_| Ok(()), "pass/order");
    check(&FREE, |_| stop(), "internal/bug");
    // It says that it changed something: the second edit took the first back.
    let undone = |rw: &mut Rewriter<'_>| {
        let site = node(rw.graph(), "n0");
        rw.apply(site, None, Why::new("there"), |e| e.set_op(site, Op::Unary(Unary::Sin)))?;
        rw.apply(site, None, Why::new("and-back"), |e| e.set_op(site, Op::Unary(Unary::Exp)))
    };
    check(&FREE, undone, "pass/misreported");
    // It says nothing: the failed edit is swallowed, the one before it is not taken back.
    let silent = |rw: &mut Rewriter<'_>| {
        let mut other = rw.graph().clone();
        let site = node(&other, "n0");
        let mut inner = Rewriter::new("m", &mut other);
        inner.apply(site, None, Why::new("elsewhere"), |e| e.set_op(site, Op::Unary(Unary::Sin)))?;
        rw.extend(inner.finish());
        Ok(())
    };
    check(&FREE, silent, "pass/misreported");
    let other_output = |rw: &mut Rewriter<'_>| {
        let site = node(rw.graph(), "n2");
        rw.apply(site, None, Why::new("test"), |e| {
            let out = Outlet { node: site, slot: 0 };
            let narrow = e.add(Op::Cast { to: DType::F16 }, &[out], "")?;
            e.redirect(out, narrow, &[narrow.node]);
            Ok(())
        })
    };
    check(&FREE, other_output, "pass/interface");
}

#[test]
fn stopping_and_leaving_out_go_by_name() {
    let graph = parse::parse(MODEL).unwrap();
    let machine = hwdb::machine("x86-cpu-2core").unwrap();
    let ran = |debugging: Debugging| {
        let out = compile_graph(&graph, &machine, &Choices::default(), Checks::Full, &debugging).unwrap();
        out.trace.records.iter().map(|r| (r.id, r.status == Status::Disabled)).collect::<Vec<_>>()
    };
    let all = ran(Debugging::default());
    let stopped = ran(Debugging { stop_after: Some("eliminate".into()), ..Debugging::default() });
    // The last of those that are called so.
    assert_eq!(stopped, all[..all.len() - 1]);
    let without = ran(Debugging { disable: vec!["eliminate".into()], ..Debugging::default() });
    assert_eq!(without.iter().filter(|(_, off)| *off).count(), 3);
}
