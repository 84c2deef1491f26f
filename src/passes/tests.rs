//! Tests of the passes on whole models.

use super::manager::Debugging;
use super::*;
use crate::hwdb;

fn svd_unet() -> OpGraph {
    let config = serde_json::json!({
        "in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "num_attention_heads": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 768,
        "layers_per_block": 2, "transformer_layers_per_block": 1, "num_frames": 25, "sample_size": 96,
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"]
    });
    let graph = crate::models::build("unet-spatio-temporal-condition", &config, "unet", "unet").unwrap();
    let f32s = |dims: &[i64]| (crate::ir::DType::F32, dims.to_vec());
    let bindings = graph.signature().unify(&[f32s(&[2, 25, 8, 72, 128]), f32s(&[1]), f32s(&[2, 1, 1024]), f32s(&[2, 3])]).unwrap();
    graph.bind(&bindings).unwrap()
}

#[test]
fn the_full_size_unet_compiles_for_a_card_with_every_check_on() {
    let graph = svd_unet();
    let machine = hwdb::machine("rtx3090").unwrap();
    let knobs = offered_knobs(&graph, &machine).unwrap();
    for k in &knobs {
        eprintln!("{} {:?}", k.id, k.domain);
    }
    let mut choices = Choices::default();
    choices.set("unet.precision", "f16");
    choices.set("unet.level0.attention", "tile-8");
    choices.set("unet.level0.feed-forward", "4");
    let t = std::time::Instant::now();
    let compiled = compile(&graph, &machine, &choices, Checks::Full, &Debugging::default()).unwrap();
    eprintln!("full {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let fast = compile(&graph, &machine, &choices, Checks::Fast, &Debugging::default()).unwrap();
    eprintln!("fast {:?} {}", t.elapsed(), fast.graph.len());
    for r in &compiled.trace.records {
        eprintln!("{} {:?} {} -> {} ({} remarks, {:?})", r.id, r.status, r.nodes_before, r.nodes_after, r.remarks.len(), r.elapsed);
    }
    let mut names = std::collections::BTreeMap::new();
    for id in fast.graph.nodes() {
        *names.entry(fast.graph.node(id).op.name().to_owned()).or_insert(0) += 1;
    }
    eprintln!("{names:?}");
}
