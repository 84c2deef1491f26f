//! How fast this machine multiplies: FLOP of the kernels that ran, and probes of single products and convolutions, which are the limit
//! that a model of such kernels can reach.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, ModelSource};
use super::inputs::{Dims, input_specs, random_inputs};
use super::measure::Executed;
use super::site::{Budget, Timing, time_models};
use crate::diag::Result;
use crate::onnx::build::{self, attr};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
use crate::runtime::profile::NodeRun;
use crate::runtime::session::{Runtime, SessionOptions};
use crate::weights::{DType, RandomSpec, random_spec};

/// Kernels of one kind that multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiplied {
    /// How many ran.
    pub count: usize,
    /// Their operations, a multiply-add as two.
    pub flop: u64,
    /// Their time, in microseconds.
    pub time_us: u64,
}

impl Multiplied {
    /// 10⁹ operations a second; 0 if no time was counted.
    pub fn gflops(&self) -> f64 {
        if self.time_us == 0 { 0.0 } else { self.flop as f64 / self.time_us as f64 / 1e3 }
    }
}

/// The kinds of [`multiplied`].
const KINDS: [(&str, &[&str]); 3] = [
    ("matrix products", &["MatMul", "FusedMatMul", "Gemm", "FusedGemm"]),
    ("convolutions", &["Conv", "FusedConv", "ConvTranspose"]),
    ("attention", &["MultiHeadAttention", "Attention"]),
];

/// Work and time of the kernels that multiply, by kind, and of all others under `other` (whose operations are not counted).
pub fn multiplied(executed: &Executed) -> BTreeMap<&'static str, Multiplied> {
    let mut found = BTreeMap::new();
    for node in &executed.nodes {
        let kind = KINDS.iter().find(|(_, ops)| ops.contains(&node.op.as_str())).map_or("other", |(kind, _)| *kind);
        let sum: &mut Multiplied = found.entry(kind).or_default();
        sum.count += 1;
        sum.flop += flop(node).unwrap_or(0);
        sum.time_us += node.dur_us;
    }
    found
}

/// Operations of a kernel that multiplies, from the extents in the profile.
///
/// A product makes each output element in as many multiply-adds as there are elements of the left operand for each row of the output; a
/// convolution in as many as its kernel has elements for each output channel; attention multiplies scores and values.
pub fn flop(node: &NodeRun) -> Option<u64> {
    let count = |shape: &Vec<i64>| shape.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
    let (output, left, right) = (node.outputs.first()?, node.inputs.first()?, node.inputs.get(1));
    let out = count(output)?;
    let depth = match node.op.as_str() {
        "MatMul" | "FusedMatMul" | "Gemm" | "FusedGemm" => {
            let rows = out.checked_div(u64::try_from(*output.last()?).ok()?)?;
            count(left)?.checked_div(rows)?
        }
        "Conv" | "FusedConv" => count(right?)?.checked_div(u64::try_from(*right?.first()?).ok()?)?,
        "MultiHeadAttention" | "Attention" => 2 * u64::try_from(*right?.get(1)?).ok()?,
        _ => return None,
    };
    out.checked_mul(depth)?.checked_mul(2)
}

/// A single kernel to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `[batch, m, k] x [k, n]` with a constant right operand.
    Gemm {
        /// Products.
        batch: u64,
        /// Rows.
        m: u64,
        /// Depth.
        k: u64,
        /// Columns.
        n: u64,
    },
    /// A convolution `[batch, channels, size, size]` to as many channels, same size.
    Conv {
        /// Pictures.
        batch: u64,
        /// Channels in and out.
        channels: u64,
        /// Height and width.
        size: u64,
        /// Height and width of the kernel, odd.
        kernel: u64,
    },
}

impl Probe {
    /// What it multiplies, a multiply-add as two.
    pub fn flop(&self) -> u64 {
        match *self {
            Self::Gemm { batch, m, k, n } => 2 * batch * m * k * n,
            Self::Conv { batch, channels, size, kernel } => 2 * batch * channels * channels * size * size * kernel * kernel,
        }
    }

    fn model(&self) -> ModelProto {
        let f32s = DType::F32.onnx();
        let extents = |shape: &[u64]| shape.iter().map(|d| (*d as i64).into()).collect::<Vec<build::Extent>>();
        let (input, output, weight, node): (Vec<u64>, Vec<u64>, Vec<u64>, NodeProto) = match *self {
            Self::Gemm { batch, m, k, n } => {
                (vec![batch, m, k], vec![batch, m, n], vec![k, n], build::node("MatMul", "probe", &["x", "w"], &["y"]))
            }
            Self::Conv { batch, channels, size, kernel } => {
                let mut node = build::node("Conv", "probe", &["x", "w"], &["y"]);
                node.attribute = vec![attr::ints("pads", &[(kernel / 2) as i64; 4])];
                let shape = vec![batch, channels, size, size];
                (shape.clone(), shape, vec![channels, channels, kernel, kernel], node)
            }
        };
        let law = RandomSpec { center: 0.0, bound: 0.1, ..random_spec(1, "probe", "w", &[]) };
        let values: Vec<u8> = (0..weight.iter().product()).flat_map(|i| law.value(i).to_le_bytes()).collect();
        let dims: Vec<i64> = weight.iter().map(|d| *d as i64).collect();
        let graph = GraphProto {
            name: "probe".into(),
            node: vec![node],
            initializer: vec![build::tensor("w", f32s, &dims, values)],
            input: vec![build::value_info("x", f32s, &extents(&input))],
            output: vec![build::value_info("y", f32s, &extents(&output))],
            ..GraphProto::default()
        };
        build::model(graph, 21)
    }
}

/// A probe and how fast it ran.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The kernel.
    pub probe: Probe,
    /// Its time.
    pub timing: Timing,
    /// 10⁹ operations a second at the median.
    pub gflops: f64,
}

/// Times single kernels.
///
/// # Errors
/// Those of making and running sessions.
pub fn rates(runtime: &Runtime, probes: &[Probe], options: &SessionOptions, budget: Budget) -> Result<Vec<Rate>> {
    let mut out = Vec::new();
    for probe in probes {
        let model = probe.model();
        let inputs = random_inputs(&input_specs(&model, &Dims::new())?, 1)?;
        let candidate = Candidate::new("probe", ModelSource::Memory(crate::onnx::encode(&model)?), options.clone());
        let timing = time_models(runtime, &[(candidate, inputs)], budget)?[0];
        out.push(Rate { probe: *probe, timing, gflops: probe.flop() as f64 / timing.seconds / 1e9 });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_from_extents() {
        let check = |op: &str, inputs: &[&[i64]], output: &[i64], expect: Option<u64>| {
            let node = NodeRun {
                name: "n".into(),
                op: op.into(),
                provider: String::new(),
                start_us: 0,
                dur_us: 1,
                inputs: inputs.iter().map(|s| s.to_vec()).collect(),
                outputs: vec![output.to_vec()],
            };
            assert_eq!(flop(&node), expect, "{op} {inputs:?}");
        };
        check("MatMul", &[&[2, 3, 5]], &[2, 3, 7], Some(2 * 2 * 3 * 5 * 7));
        check("Conv", &[&[1, 8, 4, 4], &[16, 4, 3, 3]], &[1, 16, 4, 4], Some(2 * 16 * 16 * 36));
        check("MultiHeadAttention", &[&[1, 10, 64], &[1, 20, 64], &[1, 20, 64]], &[1, 10, 64], Some(4 * 10 * 20 * 64));
        check("Add", &[&[4]], &[4], None);
        check("Conv", &[&[1, 8, 4, 4]], &[1, 16, 4, 4], None);
        check("MatMul", &[&[0, 5]], &[0, 0], None);
    }

    #[test]
    fn probes_count_their_work() {
        assert_eq!(Probe::Gemm { batch: 2, m: 3, k: 5, n: 7 }.flop(), 420);
        assert_eq!(Probe::Conv { batch: 1, channels: 4, size: 8, kernel: 3 }.flop(), 2 * 4 * 64 * 36);
    }
}
