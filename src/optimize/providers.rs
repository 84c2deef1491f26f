//! The providers that the session of a written model is for, as they stand in its metadata.

use std::collections::BTreeSet;

use super::model::live;
use crate::cost::operator::cost;
use crate::hwdb::Machine;
use crate::ir::{OpGraph, Outlet};
use crate::target::{Asked, Provider, row};
use crate::units::Bytes;

/// The providers of a machine with their options. What follows from sizes is left to the runtime where the model leaves those open, and
/// so are folders (caches): a model has none of its own, as a plan has.
pub fn providers(graph: &OpGraph, machine: &Machine) -> Vec<Provider> {
    let nodes = live(graph);
    let types: BTreeSet<_> = nodes.iter().flat_map(|id| graph.node(*id).outs.iter().map(|t| t.dtype)).collect();
    let costed = nodes.iter().filter(|id| graph.node(**id).op.onnx_type().is_some());
    let scratch = costed.filter_map(|id| Some(cost(graph, *id, machine).ok()?.scratch)).max().unwrap_or(Bytes(0));
    let input = |id: &crate::ir::NodeId| Some((graph.node(*id).name.clone(), graph.ty(Outlet { node: *id, slot: 0 }).dims()?));
    let inputs: Option<Vec<(String, Vec<i64>)>> = graph.inputs().iter().map(input).collect();
    let inputs = inputs.unwrap_or_default();
    let mut providers = machine.target.providers(&Asked { device: 0, types: &types, tf32: graph.tf32, scratch, inputs: &inputs });
    for provider in &mut providers {
        let folders = row(&provider.provider).map_or(&[][..], |row| row.folders);
        let of_a_folder = |name: &str| folders.iter().any(|f| name.starts_with(f.trim_end_matches("_path")));
        provider.options.retain(|name, value| !value.is_empty() && !of_a_folder(name));
    }
    providers
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hwdb::Database;
    use crate::ir::{DType, Dim, Op, TensorType, op::Unary};

    fn check(hw: &str, provider: Option<&str>, extent: Dim, expect: &[(&str, &[(&str, &str)])]) {
        let mut graph = OpGraph::new("g");
        let x = graph.input("x", TensorType::new(DType::F16, vec![extent, 4.into()]));
        let y = graph.add(Op::Unary(Unary::Exp), &[x], "e", &"g".into()).unwrap();
        graph.output("y", y);
        let machine = Machine::with_provider(&Database::default().load(hw).unwrap(), provider).unwrap();
        let found = providers(&graph, &machine);
        assert_eq!(found.iter().map(|p| p.provider.as_str()).collect::<Vec<_>>(), expect.iter().map(|e| e.0).collect::<Vec<_>>());
        for (found, (_, options)) in found.iter().zip(expect) {
            for (name, value) in *options {
                let got = found.options.get(*name).map_or("", String::as_str);
                assert_eq!(got, *value, "{name}");
            }
            let wrong = row(&found.provider).unwrap().wrong_option(&found.options);
            assert_eq!(wrong, None);
        }
    }

    #[test]
    fn a_model_names_its_providers_and_no_folder() {
        check("cpu", None, Dim::Const(2), &[("cpu", &[])]);
        check("rtx3090", None, Dim::Const(2), &[("cuda", &[("device_id", "0"), ("use_tf32", "0")])]);
        let shapes = ("trt_profile_opt_shapes", "x:2x4");
        let half = ("trt_fp16_enable", "1");
        let none = [("trt_engine_cache_enable", ""), ("trt_engine_cache_path", ""), ("trt_timing_cache_enable", "")];
        check("rtx3090", Some("tensorrt"), Dim::Const(2), &[("tensorrt", &[shapes, half, none[0], none[1], none[2]]), ("cuda", &[])]);
    }

    #[test]
    fn what_follows_from_sizes_is_left_out_where_they_are_open() {
        let open = Dim::symbol("n");
        check(
            "rtx3090",
            Some("tensorrt"),
            open,
            &[("tensorrt", &[("trt_profile_opt_shapes", ""), ("trt_fp16_enable", "1")]), ("cuda", &[])],
        );
    }
}
