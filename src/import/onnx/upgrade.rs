//! Nodes of older operator sets at the meaning of opset 21, which is what vidc writes. Only what changed meaning or form between
//! 11 and 21 is here (`onnx` changelog, `docs/Changelog.md` of the standard); everything else grew by element types alone.

use super::reader::Reader;
use crate::diag::{Diagnostic, Result};
use crate::ir::{Dim, Op, Outlet};
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
    (&["RoiAlign"], 16, Change::Default { attribute: "coordinate_transformation_mode", word: "output_half_pixel" }),
    (&["GroupNormalization"], 21, Change::OfGroups { positions: [1, 2] }),
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
    /// What leaving the attribute out meant.
    Default { attribute: &'static str, word: &'static str },
    /// Inputs with a value a group, which have one a channel now.
    OfGroups { positions: [usize; 2] },
}

/// Changes attributes and inputs of a node of the standard domain.
///
/// # Errors
/// `onnx/opset` for a form that needs sizes that are not known.
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
            Change::Default { attribute, word } => {
                if attributes.iter().all(|a| a.name != *attribute) {
                    attributes.push(attr::string(attribute, word));
                }
            }
            Change::OfGroups { positions } => {
                for at in positions {
                    of_channels(r, inputs, *at)?;
                }
            }
        }
    }
    Ok(())
}

/// Repeats each of `groups` values for the channels of its group.
fn of_channels(r: &mut Reader<'_, '_>, inputs: &mut [Option<Outlet>], at: usize) -> Result<()> {
    let (Some(Some(x)), Some(Some(values))) = (inputs.first().copied(), inputs.get(at).copied()) else { return Ok(()) };
    let extent = |o: Outlet, axis: usize| r.graph.ty(o).shape.get(axis).and_then(Dim::as_const).filter(|n| *n > 0);
    let (Some(channels), Some(groups)) = (extent(x, 1), extent(values, 0)) else {
        let message = "`GroupNormalization` of an operator set before 21 has an unknown number of channels or groups";
        return Err(Diagnostic::new("onnx/opset", message)
            .help("convert the model with `onnx.version_converter`, or export it again")
            .into());
    };
    let (column, table) = (vec![Dim::Const(groups), Dim::Const(1)], vec![Dim::Const(groups), Dim::Const(channels / groups)]);
    let column = r.repeat(Op::Reshape { shape: column }, values)?;
    let table = r.repeat(Op::Expand { shape: table }, column)?;
    inputs[at] = Some(r.repeat(Op::Reshape { shape: vec![Dim::Const(channels)] }, table)?);
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
