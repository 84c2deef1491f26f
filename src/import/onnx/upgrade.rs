//! Nodes of older operator sets at the meaning of opset 21, which is what vidc writes. Only what changed meaning or form between
//! 11 and 21 is here (`onnx` changelog, `docs/Changelog.md` of the standard); everything else grew by element types alone.

use super::read::Reader;
use crate::diag::Result;
use crate::ir::Outlet;
use crate::onnx::build::attr;
use crate::onnx::proto::AttributeProto;

/// What became an input or got another name: (operators, first operator set of the new form, how).
const CHANGES: &[(&[&str], i64, Change)] = &[
    (&["Squeeze", "Unsqueeze", "ReduceSum"], 13, Change::Input { attribute: "axes", position: 1 }),
    (
        &[
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSumSquare",
        ],
        18,
        Change::Input { attribute: "axes", position: 1 },
    ),
    (&["Split"], 13, Change::Input { attribute: "split", position: 1 }),
    (&["Split"], 18, Change::CountOutputs),
    (&["DFT"], 20, Change::Scalar { attribute: "axis", default: 1, position: 2 }),
    (&["GridSample"], 20, Change::Words { attribute: "mode", words: &[("bilinear", "linear"), ("bicubic", "cubic")] }),
    (&["Dropout"], 12, Change::Drop { attribute: "ratio" }),
];

enum Change {
    /// A list of integers that is an input now.
    Input { attribute: &'static str, position: usize },
    /// An integer that is a scalar input now.
    Scalar { attribute: &'static str, default: i64, position: usize },
    /// Without sizes the number of outputs must be said.
    CountOutputs,
    /// Other words for the same.
    Words { attribute: &'static str, words: &'static [(&'static str, &'static str)] },
    /// Means nothing without training.
    Drop { attribute: &'static str },
}

/// Changes attributes and inputs of a node of the standard domain.
///
/// # Errors
/// None that a file can cause.
pub(super) fn upgrade(
    r: &mut Reader<'_, '_>,
    op_type: &str,
    version: i64,
    attributes: &mut Vec<AttributeProto>,
    inputs: &mut Vec<Option<Outlet>>,
    outputs: usize,
) -> Result<()> {
    for (_, _, change) in CHANGES.iter().filter(|(ops, since, _)| version < *since && ops.contains(&op_type)) {
        match change {
            Change::Input { attribute, position } => {
                if let Some(a) = take(attributes, attribute) {
                    let value = r.integers(&a.ints)?;
                    put(inputs, *position, value);
                }
            }
            Change::Scalar { attribute, default, position } => {
                let value = take(attributes, attribute).and_then(|a| a.i).unwrap_or(*default);
                let value = r.scalar(value)?;
                put(inputs, *position, value);
            }
            Change::CountOutputs => {
                if inputs.get(1).copied().flatten().is_none() && attributes.iter().all(|a| a.name != "num_outputs") {
                    attributes.push(attr::int("num_outputs", outputs as i64));
                }
            }
            Change::Words { attribute, words } => {
                let renamed =
                    |a: &AttributeProto| words.iter().find(|(old, _)| a.s.as_deref() == Some(old.as_bytes())).map(|(_, new)| *new);
                for a in attributes.iter_mut().filter(|a| a.name == *attribute) {
                    if let Some(new) = renamed(a) {
                        *a = attr::string(attribute, new);
                    }
                }
            }
            Change::Drop { attribute } => drop(take(attributes, attribute)),
        }
    }
    Ok(())
}

fn take(attributes: &mut Vec<AttributeProto>, name: &str) -> Option<AttributeProto> {
    let at = attributes.iter().position(|a| a.name == name)?;
    Some(attributes.remove(at))
}

fn put(inputs: &mut Vec<Option<Outlet>>, position: usize, value: Outlet) {
    if inputs.len() <= position {
        inputs.resize(position + 1, None);
    }
    inputs[position].get_or_insert(value);
}
