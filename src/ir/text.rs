//! The canonical text of an operator graph: one line a node in execution order. Snapshots, dumps, diffs, fingerprints and
//! `explain` all print this and nothing else.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use super::graph::{NodeId, OpGraph, Outlet};
use super::op::{ForChunks, Op};

/// The canonical text.
pub fn canonical(graph: &OpGraph) -> String {
    let mut out = String::new();
    write_graph(&mut out, graph, "", false).expect("writing to a string cannot fail");
    out
}

/// The canonical text with the name of each node behind it.
pub fn annotated(graph: &OpGraph) -> String {
    let mut out = String::new();
    write_graph(&mut out, graph, "", true).expect("writing to a string cannot fail");
    out
}

/// SHA-256 of the canonical text, in hex: independent of insertion order and of node names.
pub fn fingerprint(graph: &OpGraph) -> String {
    let digest = Sha256::digest(canonical(graph).as_bytes());
    digest.iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").expect("writing to a string cannot fail");
        s
    })
}

fn write_graph(out: &mut String, graph: &OpGraph, indent: &str, names: bool) -> fmt::Result {
    let ids = graph.nodes();
    let number: BTreeMap<NodeId, usize> =
        ids.iter().filter(|id| !matches!(graph.node(**id).op, Op::Input | Op::Weight(_))).enumerate().map(|(i, id)| (*id, i)).collect();
    let list = |parts: Vec<String>| parts.join(", ");
    let inputs = graph.inputs().iter().map(|i| format!("{}: {}", graph.node(*i).name, graph.node(*i).outs[0])).collect();
    let outputs = graph.outputs().iter().map(|(n, o)| format!("{n}: {} = {}", graph.ty(*o), reference(graph, &number, *o))).collect();
    writeln!(out, "{indent}model {}({}) -> {}", graph.name, list(inputs), list(outputs))?;
    for id in ids.iter().filter(|id| number.contains_key(id)) {
        let node = graph.node(*id);
        let args = graph.inputs_of(*id).iter().map(|o| reference(graph, &number, *o)).collect();
        let types = node.outs.iter().map(ToString::to_string).collect();
        write!(out, "{indent}  %{} = {}{}({}) : {}", number[id], node.op.name(), attributes(&node.op), list(args), list(types))?;
        if names {
            write!(out, "    # {}{}", node.name, if node.group.is_empty() { String::new() } else { format!(" [{}]", node.group) })?;
        }
        out.push('\n');
        if let Op::ForChunks(chunks) = &node.op {
            for (_, body) in &chunks.bodies {
                write_graph(out, body, &format!("{indent}    "), names)?;
            }
        }
    }
    Ok(())
}

fn reference(graph: &OpGraph, number: &BTreeMap<NodeId, usize>, outlet: Outlet) -> String {
    let node = graph.node(outlet.node);
    match &node.op {
        Op::Input => format!("%{}", node.name),
        Op::Weight(expr) => format!("{{{expr}}}"),
        _ if outlet.slot == 0 => format!("%{}", number[&outlet.node]),
        _ => format!("%{}.{}", number[&outlet.node], outlet.slot),
    }
}

/// The attributes in braces, or nothing.
pub fn attributes(op: &Op) -> String {
    let text = match op {
        Op::Arange { len } => format!("len={len}"),
        Op::Gemm { trans_b } => format!("trans_b={trans_b}"),
        Op::Conv(c) => format!("kernel={:?} strides={:?} pads={:?} groups={}", c.kernel, c.strides, c.pads, c.groups),
        Op::Softmax { axis } | Op::Concat { axis } => format!("axis={axis}"),
        Op::InstanceNorm { eps } | Op::LayerNorm { eps } | Op::RmsNorm { eps } => format!("eps={eps}"),
        Op::ReduceMean { axes } => format!("axes={axes:?}"),
        Op::Reshape { shape } | Op::Expand { shape } => format!("shape={shape:?}"),
        Op::Transpose { perm } => format!("perm={perm:?}"),
        Op::Slice { axis, start, end } => format!("axis={axis} {start}..{end}"),
        Op::Cast { to } => format!("to={to}"),
        Op::Upsample { factors } => format!("factors={factors:?}"),
        Op::Pad { before, after } => format!("before={before:?} after={after:?}"),
        Op::Attention(a) | Op::MultiHeadAttention(a) => format!("heads={} scale={}", a.heads, a.scale),
        Op::GroupNorm(g) | Op::GroupNormNhwc(g) => format!("groups={} eps={}{}", g.groups, g.eps, if g.silu { " silu" } else { "" }),
        Op::Gelu { tanh } => format!("tanh={tanh}"),
        Op::Unary(super::op::Unary::GeluTanh) => "tanh=true".into(),
        Op::QuickGelu { alpha } => format!("alpha={alpha}"),
        Op::RotaryEmbedding { heads } => format!("heads={heads}"),
        Op::ForChunks(c) => chunk_attributes(c),
        Op::Foreign(f) => format!("domain={:?} attributes={:?}", f.domain, f.attributes),
        _ => return String::new(),
    };
    format!("{{{text}}}")
}

fn chunk_attributes(c: &ForChunks) -> String {
    let axes: Vec<String> = c.sliced.iter().map(|a| a.map_or("-".into(), |a| a.to_string())).collect();
    format!("sliced=[{}] joined={:?} ranges={:?}", axes.join(", "), c.joined, c.ranges)
}
