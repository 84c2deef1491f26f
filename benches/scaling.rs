//! How reading, passes and writing of a model grow with its nodes: `cargo bench --bench scaling`, with numbers of nodes behind `--` for others
//! than 10^4 and 10^5. A figure to look at, never a test: seconds of each step and the ratio to the size before. Linear is the ratio of the sizes.

use std::path::Path;
use std::time::Instant;

use vidc::hwdb;
use vidc::import::onnx::import;
use vidc::ir::{Bindings, verify};
use vidc::onnx::build::{self, attr};
use vidc::onnx::proto::{GraphProto, ModelProto, NodeProto};
use vidc::optimize::model::{Level, optimize};
use vidc::passes::Choices;
use vidc::passes::manager::Debugging;
use vidc::plan::{Placed, emit};
use vidc::weights::WeightExpr;

/// Width of the tensors.
const WIDTH: i64 = 16;

/// A network of blocks of ten operators: a norm, a linear layer written out, an activation of three operators, views that cancel, a
/// residual; every eighth block also reads the output of one long before it, as decoders of U-nets do.
fn model(nodes: usize) -> ModelProto {
    let mut graph = GraphProto { name: "scaling".into(), ..GraphProto::default() };
    graph.input.push(build::value_info("x", 1, &[4.into(), WIDTH.into()]));
    let weight =
        |name: &str, dims: &[i64]| build::tensor(name, 1, dims, 0.1f32.to_le_bytes().repeat(dims.iter().product::<i64>() as usize));
    graph.initializer.extend([weight("g", &[WIDTH]), weight("one", &[])]);
    graph.initializer.push(build::tensor("flat", 7, &[3], [2i64, 2, WIDTH].map(i64::to_le_bytes).concat()));
    graph.initializer.push(build::tensor("back", 7, &[2], [4i64, WIDTH].map(i64::to_le_bytes).concat()));
    let mut last = "x".to_owned();
    for b in 0..nodes.div_ceil(10) {
        let v = |name: &str| format!("{name}{b}");
        graph.initializer.push(weight(&v("w"), &[WIDTH, WIDTH]));
        let mut add = |op: &str, inputs: &[&str], output: &str| {
            let node = build::node(op, &v(output), inputs, &[&v(output)]);
            graph.node.push(if op == "LayerNormalization" { NodeProto { attribute: vec![attr::int("axis", -1)], ..node } } else { node });
        };
        add("LayerNormalization", &[&last, "g", "g"], "n");
        add("MatMul", &[&v("n"), &v("w")], "m");
        add("Add", &[&v("m"), "g"], "a");
        add("Sigmoid", &[&v("a")], "s");
        add("Mul", &[&v("a"), &v("s")], "z");
        add("Reshape", &[&v("z"), "flat"], "r");
        add("Mul", &[&v("r"), "one"], "t");
        add("Reshape", &[&v("t"), "back"], "u");
        let skip = if b % 8 == 7 { format!("y{}", b / 2) } else { v("n") };
        add("Add", &[&v("u"), &skip], "k");
        add("Add", &[&v("k"), &last], "y");
        last = v("y");
    }
    graph.output.push(build::value_info(&last, 1, &[4.into(), WIDTH.into()]));
    build::model(graph, 21)
}

/// Seconds of each step and pass, by name.
fn measure(nodes: usize) -> Vec<(String, f64)> {
    let machine = hwdb::machine("cpu-avx2").expect("the profile is embedded");
    let proto = model(nodes);
    let start = Instant::now();
    let imported = import(&proto, Path::new("."), &Bindings::default()).expect("the model is sound");
    let mut steps = vec![("read".to_owned(), start.elapsed().as_secs_f64())];
    let start = Instant::now();
    let compiled = optimize(&imported, &machine, &Choices::default(), Level::Full, &Debugging::default()).expect("the passes take it");
    steps.push(("passes".into(), start.elapsed().as_secs_f64()));
    steps.extend(compiled.trace.records.iter().map(|r| (format!("  {}", r.id), r.elapsed.as_secs_f64())));
    let start = Instant::now();
    let verified = verify(&compiled.graph).expect("the passes leave a sound graph");
    let mut place = |_: &WeightExpr| Ok(Placed::External { location: "w".into(), offset: 0, len: 0 });
    emit(verified, &imported.style, &mut place).expect("the graph is lowered");
    steps.push(("write".into(), start.elapsed().as_secs_f64()));
    steps
}

#[expect(clippy::print_stdout, reason = "a figure for who runs it")]
fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    let mut before: Option<Vec<(String, f64)>> = None;
    for nodes in sizes {
        let now = measure(nodes);
        println!("{nodes} nodes");
        for (i, (name, seconds)) in now.iter().enumerate() {
            let ratio = before.as_ref().map_or_else(String::new, |b| format!("  x{:.1}", seconds / b[i].1.max(1e-9)));
            println!("{name:<24} {seconds:>9.3} s{ratio}");
        }
        before = Some(now);
    }
}
