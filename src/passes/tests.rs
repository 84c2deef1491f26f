//! Tests of the passes on the full-size denoiser: nothing is evaluated, but every check of the manager is on.

use std::collections::BTreeMap;

use super::*;
use crate::hwdb;
use crate::ir::DType;

fn svd_unet() -> OpGraph {
    let config = serde_json::json!({
        "in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "num_attention_heads": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 768,
        "layers_per_block": 2, "transformer_layers_per_block": 1, "num_frames": 25, "sample_size": 96,
        "down_block_types": [
            "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal"
        ],
        "up_block_types": [
            "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
        ]
    });
    let graph = crate::models::build("unet-spatio-temporal-condition", &config, "unet", "unet").unwrap();
    let f32s = |dims: &[i64]| (DType::F32, dims.to_vec());
    let bindings = graph.signature().unify(&[f32s(&[2, 25, 8, 72, 128]), f32s(&[1]), f32s(&[2, 1, 1024]), f32s(&[2, 3])]).unwrap();
    graph.bind(&bindings).unwrap()
}

#[test]
fn the_full_size_unet_compiles_for_a_card_with_every_check_on() {
    let graph = svd_unet();
    let machine = hwdb::machine("rtx3090").unwrap();
    let mut choices = Choices::default();
    for (knob, answer) in [("unet.precision", "f16"), ("unet.level0.attention", "tile-8"), ("unet.level0.feed-forward", "4")] {
        choices.set(knob, answer);
    }
    choices.check(&offered_knobs(&graph, &machine).unwrap()).unwrap();
    let full = compile_graph(&graph, &machine, &choices, Checks::Full, &Debugging::default()).unwrap();
    let fast = compile_graph(&graph, &machine, &choices, Checks::Fast, &Debugging::default()).unwrap();
    assert_eq!(full.graph, fast.graph, "checks change nothing");
    let traced = compile_graph(&graph, &machine, &choices, Checks::Traced, &Debugging::default()).unwrap();
    let remarks = |c: &Compiled| c.trace.records.iter().map(|r| r.remarks.clone()).collect::<Vec<_>>();
    assert_eq!(remarks(&full), remarks(&traced), "what is traced is what happened");

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for id in full.graph.nodes() {
        *counts.entry(full.graph.node(id).op.name()).or_default() += 1;
    }
    // 64 attentions: 32 over one key fold away; of the others the 5 spatial ones of level 0 become 8 tiles each.
    assert_eq!(counts.get("MultiHeadAttention"), Some(&27));
    assert_eq!(counts.get("Softmax"), Some(&(5 * 8)));
    assert!(full.graph.nodes().iter().all(|id| !full.graph.node(*id).op.is_raised()));
}
