//! Reads the profile that ONNX Runtime writes: which node ran where, in what order, for how long.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::diag::{Diagnostic, Result};

/// One execution of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRun {
    /// The node's name in the model.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The execution provider that ran it, such as `CPUExecutionProvider`.
    pub provider: String,
    /// When its kernel began, in microseconds since the profile began.
    pub start_us: u64,
    /// How long its kernel took, in microseconds.
    pub dur_us: u64,
    /// Extents of its inputs, as far as the profile tells; weights that were packed are not among them.
    pub inputs: Vec<Vec<i64>>,
    /// Extents of its outputs.
    pub outputs: Vec<Vec<i64>>,
}

/// An event of the trace; what is not read here is skipped.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    input_type_shape: Value,
    #[serde(default)]
    output_type_shape: Value,
}

/// The extents in a list such as `[{"float":[2,3]}]`; what is no tensor has none.
fn shapes(list: &Value) -> Vec<Vec<i64>> {
    let extents = |v: &Value| v.as_array().map(|dims| dims.iter().filter_map(Value::as_i64).collect());
    let shape = |v: &Value| v.as_object().and_then(|o| o.values().next()).and_then(extents).unwrap_or_default();
    list.as_array().map_or_else(Vec::new, |all| all.iter().map(shape).collect())
}

/// Every kernel of the profile in the order in which they began; several runs follow one another.
///
/// # Errors
/// `runtime/profile`.
pub fn profile_nodes(file: &Path) -> Result<Vec<NodeRun>> {
    let bad = |why: String| Diagnostic::new("runtime/profile", format!("cannot read the profile `{}`: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
    let events: Vec<Event> = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    let mut nodes: Vec<NodeRun> = events.into_iter().filter_map(node).collect();
    nodes.sort_by_key(|n| n.start_us); // stable: nodes within one microsecond stay in the order of the file
    Ok(nodes)
}

fn node(event: Event) -> Option<NodeRun> {
    let name = event.name.strip_suffix("_kernel_time").filter(|_| event.cat == "Node")?.to_owned();
    let (inputs, outputs) = (shapes(&event.args.input_type_shape), shapes(&event.args.output_type_shape));
    Some(NodeRun { name, op: event.args.op_name, provider: event.args.provider, start_us: event.ts, dur_us: event.dur, inputs, outputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_taken_in_the_order_they_began() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"[{"cat":"Session","name":"model_run","dur":9,"ts":1,"args":{}},
            {"cat":"Node","name":"b_kernel_time","dur":3,"ts":7,"args":{"op_name":"Add","provider":"P",
                "input_type_shape":[{"float":[2,3]},{"int64":[]}],"output_type_shape":[{"float":[2,3]}]}},
            {"cat":"Node","name":"a_kernel_time","dur":2,"ts":4,"args":{"op_name":"MatMul","provider":"P"}},
            {"cat":"Node","name":"a_fence_before","dur":0,"ts":4,"args":{}}]"#;
        std::fs::write(file.path(), text).unwrap();
        let nodes = profile_nodes(file.path()).unwrap();
        assert_eq!(
            nodes.iter().map(|n| (n.name.as_str(), n.op.as_str(), n.dur_us)).collect::<Vec<_>>(),
            [("a", "MatMul", 2), ("b", "Add", 3)]
        );
        assert_eq!((&nodes[1].inputs, &nodes[1].outputs), (&vec![vec![2, 3], vec![]], &vec![vec![2, 3]]));
        std::fs::write(file.path(), "[{").unwrap();
        assert_eq!(profile_nodes(file.path()).unwrap_err().code, "runtime/profile");
    }
}
