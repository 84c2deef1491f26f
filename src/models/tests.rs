//! Tests of the architectures against published sizes, stored tensor names and the operator counts of exported graphs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::blocks::{Blend, ResBlock, Video, resnet, sinusoid, spatio_temporal_resnet};
use super::builder::dims;
use super::*;
use crate::ir::text::canonical;
use crate::ir::{Bindings, Dim, Outlet, verify};

/// The four models of a pipeline: architecture and weights component.
const MODELS: [(&str, &str); 4] = [
    ("clip-vision-with-projection", "image_encoder"),
    ("kl-encoder", "vae"),
    ("temporal-decoder", "vae"),
    ("unet-spatio-temporal-condition", "unet"),
];

/// Configs of the small pipeline, by component; its tensors lie beside it.
fn tiny() -> Value {
    serde_json::from_str(include_str!("../../tests/data/models/svd_tiny_configs.json")).unwrap()
}

/// The published sizes of SVD-XT, by component.
fn xt() -> Value {
    json!({
        "image_encoder": {
            "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "intermediate_size": 5120, "num_attention_heads": 16,
            "num_channels": 3, "num_hidden_layers": 32, "patch_size": 14, "projection_dim": 1024, "layer_norm_eps": 1e-5
        },
        "vae": {
            "block_out_channels": [128, 256, 512, 512], "down_block_types": vec!["DownEncoderBlock2D"; 4], "in_channels": 3,
            "latent_channels": 4, "layers_per_block": 2, "out_channels": 3, "force_upcast": true
        },
        "unet": {
            "addition_time_embed_dim": 256, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024,
            "down_block_types": [
                "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal",
                "DownBlockSpatioTemporal"
            ],
            "in_channels": 8, "layers_per_block": 2, "num_attention_heads": [5, 10, 20, 20], "num_frames": 25, "out_channels": 4,
            "projection_class_embeddings_input_dim": 768, "sample_size": 96, "transformer_layers_per_block": 1,
            "up_block_types": [
                "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal",
                "CrossAttnUpBlockSpatioTemporal"
            ]
        }
    })
}

fn model(configs: &Value, architecture: &str) -> OpGraph {
    let (_, component) = MODELS.iter().find(|m| m.0 == architecture).unwrap();
    build(architecture, &configs[component], component, component).unwrap()
}

fn unet(configs: &Value) -> OpGraph {
    model(configs, "unet-spatio-temporal-condition")
}

/// How often each operator occurs.
fn census(graph: &OpGraph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.nodes() {
        *counts.entry(graph.node(id).op.name().to_owned()).or_default() += 1;
    }
    counts
}

/// Epsilon of group normalisation → how often.
fn epsilons(graph: &OpGraph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in graph.nodes() {
        if let Op::GroupNorm(g) = &graph.node(id).op {
            *counts.entry(g.eps.to_string()).or_default() += 1;
        }
    }
    counts
}

fn pairs<const N: usize>(expect: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expect.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

#[test]
fn full_size_models_have_the_published_parameter_counts() {
    let configs = xt();
    let check = |architecture: &str, expect: u64| assert_eq!(parameter_count(&model(&configs, architecture)), expect, "{architecture}");
    check("clip-vision-with-projection", 632_076_800);
    check("kl-encoder", 34_163_664);
    check("temporal-decoder", 63_579_183);
    check("unet-spatio-temporal-condition", 1_524_623_082);
    assert_eq!(34_163_664 + 63_579_183, 97_742_847);
}

/// `{"a": {"b": [2, 3]}}` → `a.b: [2, 3]`.
fn flatten(prefix: &str, tree: &Value, out: &mut BTreeMap<String, Vec<u64>>) {
    match tree {
        Value::Object(children) => {
            for (key, child) in children {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, child, out);
            }
        }
        shape => {
            out.insert(prefix.to_owned(), serde_json::from_value(shape.clone()).unwrap());
        }
    }
}

#[test]
fn every_stored_tensor_is_a_parameter_and_every_parameter_is_stored() {
    let stored: Value = serde_json::from_str(include_str!("../../tests/data/models/svd_tiny_tensors.json")).unwrap();
    let configs = tiny();
    for component in ["image_encoder", "vae", "unet"] {
        let mut expect = BTreeMap::new();
        flatten("", &stored[component], &mut expect);
        let expect: BTreeMap<String, Vec<u64>> = expect.into_iter().map(|(k, v)| (format!("{component}/{k}"), v)).collect();
        let models = MODELS.iter().filter(|m| m.1 == component);
        let got: BTreeMap<String, Vec<u64>> = models.flat_map(|m| parameters(&model(&configs, m.0))).collect();
        let names = |m: &BTreeMap<String, Vec<u64>>| m.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&got).symmetric_difference(&names(&expect)).collect::<Vec<_>>(), Vec::<&String>::new(), "{component}");
        assert_eq!(got, expect, "{component}");
    }
}

/// Binds, verifies, and shows the types of the outputs.
fn bound(graph: &OpGraph, sizes: [(&str, i64); 4]) -> String {
    let bindings: Bindings = sizes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    verify(graph).unwrap();
    let graph = graph.bind(&bindings).unwrap();
    verify(&graph).unwrap();
    let all_known = graph.nodes().iter().all(|id| graph.node(*id).outs.iter().all(|t| t.dims().is_some()));
    assert!(all_known, "{}", graph.name);
    graph.outputs().iter().map(|(name, o)| format!("{name}: {}", graph.ty(*o))).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_model_verifies_and_binds() {
    let check = |configs: &Value, sizes: [(&str, i64); 4], expect: [&str; 4]| {
        for ((architecture, _), expect) in MODELS.iter().zip(expect) {
            assert_eq!(bound(&model(configs, architecture), sizes), expect, "{architecture}");
        }
    };
    check(
        &tiny(),
        [("batch", 2), ("frames", 4), ("h", 2), ("w", 2)],
        [
            "image_embeds: f32[2, 64]",
            "image_latents: f32[2, 4, 2, 2]",
            "frames_out: f32[2, 4, 3, 16, 16]",
            "out_sample: f32[2, 4, 4, 16, 16]",
        ],
    );
    check(
        &xt(),
        [("batch", 2), ("frames", 25), ("h", 9), ("w", 16)],
        [
            "image_embeds: f32[2, 1024]",
            "image_latents: f32[2, 4, 9, 16]",
            "frames_out: f32[2, 25, 3, 72, 128]",
            "out_sample: f32[2, 25, 4, 72, 128]",
        ],
    );
}

#[test]
fn inputs_have_the_documented_names_and_types() {
    let check = |architecture: &str, expect: &str| {
        let text = canonical(&model(&xt(), architecture));
        let head = text.lines().next().unwrap().split_once('(').unwrap().1.split_once(") -> ").unwrap().0;
        assert_eq!(head, expect, "{architecture}");
    };
    check("clip-vision-with-projection", "pixel_values: f32[batch, 3, 224, 224]");
    check("kl-encoder", "image: f32[batch, 3, 8*h, 8*w]");
    check("temporal-decoder", "latents: f32[batch, frames, 4, h, w]");
    check(
        "unet-spatio-temporal-condition",
        "sample: f32[batch, frames, 8, 8*h, 8*w], timestep: f32[1], encoder_hidden_states: f32[batch, 1, 1024], added_time_ids: f32[batch, 3]",
    );
}

/// The figures are counts in graphs exported from the reference implementation, its decomposed operators counted as one.
#[test]
fn operators_occur_as_often_as_in_an_exported_graph() {
    let configs = tiny();
    let check = |architecture: &str, expect: &[(&str, usize)]| {
        let counts = census(&model(&configs, architecture));
        for (op, n) in expect {
            assert_eq!(counts.get(*op).copied().unwrap_or(0), *n, "{op} in {architecture}");
        }
    };
    let unet_counts =
        [("Attention", 64), ("GroupNorm", 105), ("LayerNormalization", 112), ("GeGlu", 48), ("Conv", 66), ("TemporalConv", 44)];
    check("unet-spatio-temporal-condition", &unet_counts);
    check("unet-spatio-temporal-condition", &[("Linear", 464), ("Resize", 3), ("Sin", 18), ("Cos", 18), ("Concat", 12 + 18), ("Div", 0)]);
    check("temporal-decoder", &[("Attention", 1), ("GroupNorm", 58), ("Conv", 35), ("TemporalConv", 29), ("Linear", 4), ("Resize", 3)]);
    check("kl-encoder", &[("Attention", 1), ("GroupNorm", 22), ("Conv", 28), ("Linear", 4), ("Silu", 0), ("Slice", 1)]);
    check("clip-vision-with-projection", &[("Attention", 3), ("LayerNormalization", 8), ("Gelu", 3), ("Conv", 1), ("Linear", 19)]);
    assert_eq!(epsilons(&unet(&configs)), pairs([("0.000001", 88), ("0.00001", 17)]));
    assert_eq!(epsilons(&model(&configs, "temporal-decoder")), pairs([("0.000001", 30), ("0.00001", 28)]));
    assert_eq!(epsilons(&model(&configs, "kl-encoder")), pairs([("0.000001", 22)]));
}

/// The names of the nodes whose outputs reach the two inputs of each skip, through nothing.
#[test]
fn going_up_takes_back_what_going_down_kept_in_reverse_order() {
    let graph = unet(&tiny());
    let source = |o: Outlet| graph.node(o.node).name.clone();
    let skips: Vec<String> =
        graph.nodes().into_iter().filter(|id| graph.node(*id).name.ends_with("/skip")).map(|id| source(graph.inputs_of(id)[1])).collect();
    let expect = [
        "down_blocks.3.resnets.1/join_frames",
        "down_blocks.3.resnets.0/join_frames",
        "down_blocks.2.downsamplers.0/conv",
        "down_blocks.2.attentions.1/residual",
        "down_blocks.2.attentions.0/residual",
        "down_blocks.1.downsamplers.0/conv",
        "down_blocks.1.attentions.1/residual",
        "down_blocks.1.attentions.0/residual",
        "down_blocks.0.downsamplers.0/conv",
        "down_blocks.0.attentions.1/residual",
        "down_blocks.0.attentions.0/residual",
        "/conv_in",
    ];
    assert_eq!(skips, expect);
}

#[test]
fn each_node_belongs_to_a_part_that_shares_knobs() {
    let check = |architecture: &str, expect: &[&str]| {
        let graph = model(&tiny(), architecture);
        let computing = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_)));
        let mut groups: Vec<String> = computing.map(|id| graph.node(id).group.to_string()).collect();
        groups.dedup();
        assert_eq!(groups, expect, "{architecture}");
    };
    check("clip-vision-with-projection", &["layers"]);
    check("kl-encoder", &["level0", "level1", "level2", "level3", "mid", "level3"]);
    check("temporal-decoder", &["level3", "mid", "level3", "level2", "level1", "level0"]);
    let unet = ["io", "level0", "level1", "level2", "level3", "mid", "level3", "level2", "level1", "level0", "io"];
    check("unet-spatio-temporal-condition", &unet);
}

/// The graph of one block, in canonical text without the weights component and the types of parameters.
fn block_text(inputs: &[(&str, Vec<Dim>)], block: impl FnOnce(&mut Builder, &[Outlet]) -> Result<Outlet>) -> String {
    let mut b = Builder::new("block", "w");
    let values: Vec<Outlet> = inputs.iter().map(|(name, shape)| b.input(name, shape.clone())).collect();
    let y = block(&mut b, &values).unwrap();
    b.output("y", y);
    let graph = b.finish();
    verify(&graph).unwrap();
    let text = canonical(&graph).replace("w/", "");
    let untyped = |part: &str| match part.strip_prefix("param ").and_then(|p| p.split_once(": ")) {
        Some((name, rest)) => format!("param {name}{}", &rest[rest.find('}').unwrap()..]),
        None => part.to_owned(),
    };
    text.split('{').map(untyped).collect::<Vec<_>>().join("{")
}

/// The attributes stay out of the expected text where they repeat.
fn unfold(expect: &str) -> String {
    let conv = "{kernel=[3, 3] strides=[1, 1] pads=[(1, 1), (1, 1)] groups=1}";
    expect.replace("{3x3}", conv).replace("{1x1}", &conv.replace('3', "1").replace("(1, 1)", "(0, 0)"))
}

#[test]
fn a_resnet_in_text() {
    let (video, shape) = (Video::symbolic(), dims![Dim::symbol("batch") * Dim::symbol("frames"), 32, Dim::symbol("h"), Dim::symbol("w")]);
    let block = |e| ResBlock { out: 64, eps: 1e-5, temporal_eps: 1e-5, embedding: Some(e), blend: Blend::Spatial };
    let text = block_text(&[("x", shape), ("e", dims![video.batch, 8])], |b, v| resnet(b, v[0], &block(v[1]), Some(&video)));
    let expect = "\
model block(x: f32[batch*frames, 32, h, w], e: f32[batch, 8]) -> y: f32[batch*frames, 64, h, w] = %10
  %0 = GroupNorm{groups=32 eps=0.00001 silu}(%x, {param norm1.weight}, {param norm1.bias}) : f32[batch*frames, 32, h, w]
  %1 = Conv{3x3}(%0, {param conv1.weight}, {param conv1.bias}) : f32[batch*frames, 64, h, w]
  %2 = Linear(%e, {param time_emb_proj.weight}, {param time_emb_proj.bias}) : f32[batch, 64]
  %3 = Reshape{shape=[batch, 1, 64, 1, 1]}(%2) : f32[batch, 1, 64, 1, 1]
  %4 = Reshape{shape=[batch, frames, 64, h, w]}(%1) : f32[batch, frames, 64, h, w]
  %5 = Add(%4, %3) : f32[batch, frames, 64, h, w]
  %6 = Reshape{shape=[batch*frames, 64, h, w]}(%5) : f32[batch*frames, 64, h, w]
  %7 = GroupNorm{groups=32 eps=0.00001 silu}(%6, {param norm2.weight}, {param norm2.bias}) : f32[batch*frames, 64, h, w]
  %8 = Conv{3x3}(%7, {param conv2.weight}, {param conv2.bias}) : f32[batch*frames, 64, h, w]
  %9 = Conv{1x1}(%x, {param conv_shortcut.weight}, {param conv_shortcut.bias}) : f32[batch*frames, 64, h, w]
  %10 = Add(%9, %8) : f32[batch*frames, 64, h, w]
";
    assert_eq!(text, unfold(expect));
}

/// The denoiser weighs the half over pixels by the learned factor, the decoder the half over frames.
#[test]
fn the_decoder_blends_the_other_way_round() {
    let shape = dims![Dim::symbol("batch") * Dim::symbol("frames"), 32, 1, 1];
    let check = |blend: Blend, expect: [&str; 2]| {
        let block = ResBlock { out: 32, eps: 1e-6, temporal_eps: 1e-5, embedding: None, blend };
        let text = block_text(&[("x", shape.clone())], |b, v| spatio_temporal_resnet(b, v[0], &block, &Video::symbolic()));
        let weighed: Vec<&str> = text.lines().filter(|l| l.contains(" = Mul(")).map(|l| l.split(['(', ')']).nth(1).unwrap()).collect();
        assert_eq!(weighed, expect, "{text}");
        assert!(text.contains("%12 = Sigmoid({param time_mixer.mix_factor})"), "{text}");
    };
    check(Blend::Spatial, ["%12, %6", "%13, %11"]);
    check(Blend::Temporal, ["%13, %6", "%12, %11"]);
}

/// Golden values: the table of the exported graph for 32 waves.
#[test]
fn waves_start_at_one_and_fall_by_a_constant_factor() {
    let mut b = Builder::new("block", "w");
    let x = b.input("x", dims![3]);
    let y = sinusoid(&mut b, "proj", x, 32).unwrap();
    assert_eq!(b.shape(y), dims![3, 32]);
    let graph = b.finish();
    let angles = graph.nodes().into_iter().find(|id| graph.node(*id).name == "proj/angles").unwrap();
    let table = graph.as_weight(graph.inputs_of(angles)[1]).unwrap();
    let WeightOp::Literal(bytes) = table.op() else { panic!("{table} is no literal") };
    let table: Vec<f32> = bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(table[..3], [1.0, 0.562_341_33, 0.316_227_76]);
    assert_eq!(table.len(), 16);
    let order: Vec<String> = graph.nodes().into_iter().map(|id| graph.node(id).name.clone()).collect();
    assert_eq!(order[order.len() - 3..], ["proj/cos", "proj/sin", "proj/waves"]);
}

/// The small config with changes.
fn changed(component: &str, changes: &Value) -> Value {
    let mut config = tiny()[component].clone();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn other_shapes_of_a_unet_build() {
    let check = |changes: &Value| {
        let graph = build("unet-spatio-temporal-condition", &changed("unet", changes), "unet", "unet").unwrap();
        bound(&graph, [("batch", 1), ("frames", 3), ("h", 1), ("w", 2)]);
    };
    let (down, up) =
        (["DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"], ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"]);
    check(&json!({"layers_per_block": [1, 2, 3, 1], "transformer_layers_per_block": [1, 2, 1, 3], "num_attention_heads": 2}));
    check(&json!({"cross_attention_dim": [48, 48, 48, 48], "in_channels": 5, "out_channels": 7}));
    check(&json!({"block_out_channels": [64, 32], "num_attention_heads": [4, 1], "down_block_types": down, "up_block_types": up}));
    check(&json!({"block_out_channels": [32], "num_attention_heads": 1, "down_block_types": [down[1]], "up_block_types": [up[0]]}));
}

#[test]
fn other_shapes_of_the_other_models_build() {
    let check = |architecture: &str, component: &str, changes: &Value| {
        let graph = build(architecture, &changed(component, changes), component, "g").unwrap();
        bound(&graph, [("batch", 1), ("frames", 3), ("h", 1), ("w", 2)]);
    };
    for layers in 1..4 {
        let changes = json!({"layers_per_block": layers, "block_out_channels": [32, 64], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"]});
        check("kl-encoder", "vae", &changes);
        check("temporal-decoder", "vae", &changes);
    }
    for act in ["gelu", "gelu_new", "quick_gelu", "silu"] {
        check("clip-vision-with-projection", "image_encoder", &json!({"hidden_act": act, "patch_size": 30}));
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_its_key() {
    let check = |architecture: &str, config: &Value, expect: &str| {
        let d = build(architecture, config, "part", "g").unwrap_err();
        assert_eq!(format!("{}: {}; {}", d.code, d.message, d.help.unwrap_or_default()), expect);
    };
    let unet = "unet-spatio-temporal-condition";
    check(
        "unet-spatio-temporal-conditional",
        &json!({}),
        "model/unknown-architecture: there is no architecture `unet-spatio-temporal-conditional`; did you mean `unet-spatio-temporal-condition`?",
    );
    check(
        unet,
        &json!([]),
        "model/config-unsupported: the config of `part` cannot be built: it is `[]`; what can be built is a JSON object",
    );
    check(
        unet,
        &json!({"block_out_channel": [32]}),
        "model/config-missing-key: the config of `part` does not say `block_out_channels`; add `block_out_channels`; did you mean `block_out_channel`?",
    );
    check(
        unet,
        &changed("unet", &json!({"block_out_channels": [32, 48, 64, 64]})),
        "model/config-unsupported: the config of `part` cannot be built: `block_out_channels[1]` is 48; what can be built is a multiple of 32 (the groups of a norm)",
    );
    check(
        unet,
        &changed("unet", &json!({"up_block_types": ["A", "B", "C", "D"]})),
        "model/config-unsupported: the config of `part` cannot be built: `up_block_types[0]` is `\"A\"`; what can be built is one of UpBlockSpatioTemporal, CrossAttnUpBlockSpatioTemporal",
    );
    check(
        unet,
        &changed("unet", &json!({"layers_per_block": 1_000_000})),
        "model/config-unsupported: the config of `part` cannot be built: `layers_per_block` is `1000000`; what can be built is a whole number from 1 to 16",
    );
    check(
        "kl-encoder",
        &changed("vae", &json!({"act_fn": "relu"})),
        "model/config-unsupported: the config of `part` cannot be built: `act_fn` is `\"relu\"`; what can be built is `\"silu\"`",
    );
    check(
        "clip-vision-with-projection",
        &json!({"hidden_size": null, "hiden_size": 64}),
        "model/config-missing-key: the config of `part` does not say `hidden_size`; add `hidden_size`; did you mean `hiden_size`?",
    );
}
