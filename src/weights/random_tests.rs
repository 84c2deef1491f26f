//! Golden values of the seeded generator.

use super::*;

/// Stage, parameter, shape, key, center, bound, bits of the first values.
type Golden = (&'static str, &'static str, &'static [u64], u64, f64, f64, &'static [u32]);

/// Made with numpy from the formulas of the module's documentation, for seed 4242.
const GOLDEN: &[Golden] = &[
    (
        "unet",
        "conv_in.weight",
        &[32, 8, 3, 3],
        0xcdba_e4e2_e9ab_9173,
        0.0,
        0.204_124_152_660_369_87,
        &[0xbe1d_b400, 0xbd85_253d, 0x3bce_ee4d, 0xbdc0_033a],
    ),
    ("unet", "down_blocks.0.attentions.0.time_mixer.mix_factor", &[1], 0xbad0_b3a0_e18c_ebe8, 0.3, 1.2, &[0x3eb6_a3b7]),
    (
        "unet",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm1.weight",
        &[32],
        0x9cce_b46a_e52c_bae3,
        1.0,
        0.25,
        &[0x3f5b_0ea6, 0x3f6f_405c, 0x3f7f_8714, 0x3f9a_dc06],
    ),
    (
        "unet",
        "down_blocks.0.attentions.0.norm.bias",
        &[32],
        0x1e2f_2380_7185_af8e,
        0.0,
        0.15,
        &[0x3d81_f67b, 0x3e12_69c6, 0xbe11_c14c, 0x3ce8_948d],
    ),
    (
        "unet",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight",
        &[32, 32],
        0x1ab2_26ae_7ff9_b9db,
        0.0,
        0.398_042_082_786_560_06,
        &[0x3e03_adf9, 0xbebe_1e3f, 0xbcfe_eb33, 0xbe8d_1f27],
    ),
    (
        "unet",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn2.to_k.weight",
        &[32, 64],
        0x853e_cfe4_d9db_d4e8,
        0.0,
        0.281_458_258_628_845_2,
        &[0xbdda_7865, 0xbe6e_ad94, 0xbe83_751a, 0xbe5e_279b],
    ),
    (
        "unet",
        "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_out.0.bias",
        &[32],
        0x1476_4cb3_1e55_cf19,
        0.0,
        0.1,
        &[0x3d1b_7217, 0xbd58_12cd, 0xbd9c_7408, 0xbd15_768d],
    ),
    (
        "unet",
        "conv_out.weight",
        &[4, 32, 3, 3],
        0xd745_ec34_25ed_5d22,
        0.0,
        0.153_093_114_495_277_4,
        &[0xbcff_b758, 0x3ce9_da11, 0x3d75_a6e2, 0xbe0e_4f74],
    ),
    (
        "unet",
        "down_blocks.0.resnets.0.temporal_res_block.conv1.weight",
        &[32, 32, 3, 1, 1],
        0x6d7c_24f1_195f_2932,
        0.0,
        0.176_776_692_271_232_6,
        &[0x3de7_7151, 0x3cba_f929, 0x3d91_4661, 0xbd53_5d45],
    ),
    (
        "vae",
        "decoder.conv_out.weight",
        &[3, 32, 3, 3],
        0xb89b_94aa_1a20_2476,
        0.0,
        0.091_855_868_697_166_44,
        &[0x3d70_f856, 0x3c78_50a0, 0xbdab_9c21, 0xbcf7_b02d],
    ),
    (
        "vae",
        "decoder.mid_block.attentions.0.to_v.weight",
        &[96, 96],
        0x7a18_9fe7_b0bc_7786,
        0.0,
        0.176_776_692_271_232_6,
        &[0xbd95_4078, 0x3da7_1f46, 0xbdd8_aafb, 0xbdaf_c4f3],
    ),
    ("vae", "decoder.mid_block.resnets.0.time_mixer.mix_factor", &[1], 0x7e8f_cc72_9f6a_68d0, 0.3, 1.2, &[0x3d95_62e0]),
    (
        "image_encoder",
        "vision_model.embeddings.class_embedding",
        &[64],
        0xfcd2_065e_bd9d_4a79,
        0.0,
        0.5,
        &[0x3e2a_e314, 0x3e86_9742, 0xbd8e_bc18, 0xbde8_b530],
    ),
    (
        "image_encoder",
        "vision_model.embeddings.position_embedding.weight",
        &[197, 64],
        0xa55d_5e4a_59c1_7d92,
        0.0,
        0.5,
        &[0x3ea1_d5e2, 0xbe26_ba1c, 0x3e81_d278, 0xbebb_003c],
    ),
    (
        "image_encoder",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        &[64, 64],
        0xf5b4_4d08_0332_af5e,
        0.0,
        0.281_458_258_628_845_2,
        &[0xbdf4_399b, 0xbd1d_f87c, 0x3e87_c195, 0x3e1c_c46e],
    ),
    (
        "image_encoder",
        "vision_model.pre_layrnorm.weight",
        &[64],
        0xeb74_2b77_38ac_b16f,
        1.0,
        0.25,
        &[0x3f8d_1907, 0x3f74_5496, 0x3f91_591e, 0x3f8e_f8f0],
    ),
];

#[test]
fn the_generator_gives_the_golden_values() {
    for (stage, name, shape, seed, center, bound, bits) in GOLDEN {
        let spec = random_spec(4242, stage, name, shape);
        assert_eq!(spec, RandomSpec { seed: *seed, center: *center as f32, bound: *bound as f32 }, "{stage} {name}");
        let mut values = vec![0.0; bits.len()];
        fill(&spec, 0, &mut values);
        assert_eq!(values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), *bits, "{stage} {name}");
    }
}

#[test]
fn any_range_gives_the_same_values() {
    let spec = random_spec(1, "unet", "conv_in.weight", &[64, 32]);
    let mut whole = vec![0.0; 100_000];
    fill(&spec, 0, &mut whole);
    for (start, len) in [(0, 1), (16_383, 2), (99_999, 1), (30_000, 50_000)] {
        let mut part = vec![0.0; len];
        fill(&spec, start as u64, &mut part);
        assert_eq!(part, whole[start..start + len]);
    }
}

#[test]
fn values_are_uniform_around_the_center() {
    let spec = RandomSpec { seed: 5, center: 1.0, bound: 0.25 };
    let mut values = vec![0.0; 1 << 16];
    fill(&spec, 0, &mut values);
    assert!(values.iter().all(|v| (0.75..1.25).contains(v)));
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    // Standard error of the mean: 0.25 / sqrt(3 * 65536) = 5.6e-4.
    assert!((mean - 1.0).abs() < 2.5e-3, "{mean}");
}

/// Every parameter of the tiny reference, where it is at hand: `VIDC_SHARED` names the folder that holds `data/`.
#[test]
fn every_parameter_of_the_tiny_reference_has_its_law() {
    let Some(shared) = crate::skipped::shared("every_parameter_of_the_tiny_reference_has_its_law") else { return };
    let path = shared.join("data/svd_tiny/folder.json");
    let recipe: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut checked = 0;
    for (file, tensors) in recipe["tensors"].as_object().unwrap() {
        let stage = file.split('/').next().unwrap();
        for t in tensors.as_array().unwrap() {
            let name = t["name"].as_str().unwrap();
            let shape: Vec<u64> = t["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
            let number = |key: &str| t[key].as_f64().unwrap() as f32;
            let seed = u64::from_str_radix(t["seed"].as_str().unwrap(), 16).unwrap();
            let expect = RandomSpec { seed, center: number("center"), bound: number("bound") };
            assert_eq!(random_spec(4242, stage, name, &shape), expect, "{stage} {name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 1858);
}
