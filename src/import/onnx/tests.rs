//! What a model becomes when it is read: the canonical text of its graph.

use super::*;
use crate::ir::text;
use crate::onnx::build::{self, Extent, attr};
use crate::onnx::proto::{GraphProto, NodeProto};

fn with(node: NodeProto, attribute: crate::onnx::proto::AttributeProto) -> NodeProto {
    NodeProto { attribute: vec![attribute], ..node }
}

/// `y` is `x` with its last two axes joined, the shape computed as exporters write it.
fn joined() -> ModelProto {
    let integers = |name: &str, values: &[i64]| {
        build::tensor(name, 7, &[values.len() as i64], values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    };
    let graph = GraphProto {
        name: "m".into(),
        input: vec![build::value_info("x", 1, &[Extent::Named("n".into()), Extent::Known(3), Extent::Known(4)])],
        output: vec![build::value_info("y", 1, &[Extent::Unknown, Extent::Unknown])],
        initializer: vec![integers("first", &[0]), integers("rest", &[-1])],
        node: vec![
            build::node("Shape", "shape", &["x"], &["s"]),
            with(build::node("Gather", "rows", &["s", "first"], &["r"]), attr::int("axis", 0)),
            with(build::node("Concat", "wanted", &["r", "rest"], &["w"]), attr::int("axis", 0)),
            build::node("Identity", "same", &["x"], &["x1"]),
            build::node("Reshape", "join", &["x1", "w"], &["y"]),
        ],
        ..GraphProto::default()
    };
    build::model(graph, 17)
}

fn read(dims: &[(&str, i64)]) -> Result<Imported> {
    let dims = dims.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    import(&joined(), Path::new("."), &dims)
}

#[test]
fn shape_arithmetic_becomes_an_attribute() {
    let open = text::canonical(&read(&[]).unwrap().graph);
    assert!(open.contains("Reshape{shape=[n, 12]}(%x) : f32[n, 12]"), "{open}");
    let bound = text::canonical(&read(&[("n", 2)]).unwrap().graph);
    assert!(bound.contains("Reshape{shape=[2, 12]}(%x) : f32[2, 12]"), "{bound}");
}

#[test]
fn a_dim_that_the_model_lacks_is_refused() {
    assert_eq!(read(&[("m", 2)]).unwrap_err().code, "onnx/unknown-dim");
}
