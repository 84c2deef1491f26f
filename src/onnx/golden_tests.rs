//! Files that other writers made.

use super::build::{attr, entry, node, opset, tensor, value_info};
use super::*;

/// What the `onnx` Python package 1.23 wrote for the model of [`expected`] (`SerializeToString`, deterministic).
const GOLDEN: &str = "080a1204676f6c643ae5010a321201631a016b2208436f6e7374616e742a200a0576616c75652a14080210073a0b03ffffffffffffffffff01420173a001040a\
740a01780a000a01631201792204436c69702a0b0a0166150000003fa001012a100a06666c6f6174733d0000803fa001062a080a01691800a001022a160a04696e74\
73400140feffffffffffffffff01a001072a0a0a017322026162a001032a120a07737472696e67734a01704a0171a001083a001201672a11080210014201774a0800\
00c03f000000c05a180a017812130a110801120d0a07120562617463680a02080462090a017912040a02080a42040a00101542110a0d636f6d2e6d6963726f736f66\
74100172060a016b120176";

fn expected() -> proto::ModelProto {
    let ints = proto::TensorProto { int64_data: vec![3, -1], raw_data: None, ..tensor("s", 7, &[2], vec![]) };
    let constant = proto::NodeProto { attribute: vec![attr::tensor("value", ints)], ..node("Constant", "k", &[], &["c"]) };
    let attribute = vec![
        attr::float("f", 0.5),
        attr::floats("floats", &[1.0]),
        attr::int("i", 0),
        attr::ints("ints", &[1, -2]),
        attr::string("s", "ab"),
        attr::strings("strings", &["p", "q"]),
    ];
    let clip = proto::NodeProto { attribute, ..node("Clip", "", &["x", "", "c"], &["y"]) };
    let raw: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut y = value_info("y", 10, &[]);
    if let Some(proto::TypeProto { value: Some(proto::TypeValue::Tensor(t)), .. }) = &mut y.r#type {
        t.shape = None;
    }
    let graph = proto::GraphProto {
        name: "g".into(),
        node: vec![constant, clip],
        initializer: vec![tensor("w", 1, &[2], raw)],
        input: vec![value_info("x", 1, &["batch".into(), 4.into()])],
        output: vec![y],
        ..proto::GraphProto::default()
    };
    let mut model = build::model(graph, 21);
    model.producer_name = "gold".into();
    model.producer_version = String::new();
    model.opset_import.push(opset("com.microsoft", 1));
    model.metadata_props.push(entry("k", "v"));
    model
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn another_writer_s_file_is_read() {
    assert_eq!(decode(unhex(GOLDEN).into()).unwrap(), expected());
}

#[test]
fn no_single_wrong_byte_does_more_than_an_error() {
    let good = unhex(GOLDEN);
    let dir = tempfile::tempdir().unwrap();
    for at in 0..good.len() {
        for wrong in [0x00, 0x01, 0x7f, 0x80, 0xff, good[at] ^ 0x08, good[at].wrapping_add(1)] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            if let Ok(model) = decode(bytes.into()) {
                let _ = check_external_data(&model, dir.path());
            }
        }
    }
}

#[test]
fn a_file_is_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    write(&path, &expected()).unwrap();
    assert_eq!(read(&path).unwrap(), expected());
    assert!(check_external_data(&expected(), dir.path()).unwrap().is_empty());
}

/// Models as exporters write them, where they are at hand: `VIDC_SHARED` names the folder that holds `data/`.
#[test]
fn exported_models_survive_reading_and_writing() {
    let Some(shared) = crate::skipped::shared("exported_models_survive_reading_and_writing") else { return };
    for dialect in ["legacy17", "dynamo18"] {
        let folder = shared.join("data/svd_tiny").join(dialect);
        for stage in ["image_encoder", "vae_encoder", "unet", "vae_decoder"] {
            let model = read(&folder.join(format!("{stage}.onnx"))).unwrap();
            assert_eq!(decode(encode(&model).unwrap().into()).unwrap(), model, "{dialect} {stage}");
            let mut tensors = 0;
            for_each_tensor(&model, &mut |t, _| {
                tensors += 1;
                tensor::check(t)
            })
            .unwrap();
            assert!(tensors > 50, "{dialect} {stage}: {tensors}");
        }
    }
}
