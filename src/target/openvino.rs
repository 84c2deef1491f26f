//! The OpenVINO plug-in: CPUs of x86, and GPUs of Intel.

use std::collections::BTreeMap;

use super::package::wheel;
use super::{
    Attach, DeviceKind, Figures, Fits, Form, Forms, Kernels, Layout, Library, MemoryError, Package, Scratch, Software, Target, TemporalConv,
};
use crate::units::Bytes;
use crate::weights::DType::F32;

/// What the plug-in calls itself.
const NAME: &str = "OpenVINOExecutionProvider";

/// The option that takes OpenVINO's own properties, as JSON by device.
const PROPERTIES: &str = "load_config";

/// The option of the plug-in that stands for the folder of compiled models; a run turns it into a property.
const FOLDER: &str = "cache_dir";

/// The folder of a plan that compiled models are kept in.
const COMPILED: &str = "compiled";

static SOFTWARE: Software = Software {
    packages: &[&Package {
        name: "onnxruntime-ep-openvino",
        version: "1.8.1",
        builds: &[wheel!("onnxruntime-ep-openvino", "linux", "x86_64", "manylinux_2_28_x86_64", 52_587_628)],
    }],
    // It finds what it is linked to beside it.
    library: Library::Plugin("libonnxruntime_providers_openvino_plugin.so"),
    load_first: &[],
};

pub(super) static ROW: Target = Target {
    key: "openvino",
    name: "the OpenVINO provider",
    fits: Fits { kind: DeviceKind::Cpu, vendors: &[], not_vendors: &["Apple"], capability: None, systems: &["linux"], driver_files: &[] },
    attach: Attach::Plugin(NAME),
    software: Some(&SOFTWARE),
    behind: &[],
    kernels: Kernels { text: include_str!("kernels/openvino.txt"), widened: &[] },
    forms: FORMS,
    precisions: &[],
    figures: Figures {
        dispatch_s: 0.3e-6,
        engine: "onnxruntime-openvino",
        // The same processor; its kernels of products and convolutions are about as fast.
        stands_in: Some("onnxruntime-cpu"),
        // Of memory nothing is fitted yet: these are the figures of ONNX Runtime's own provider, and the error is a guess that says so.
        overhead: Bytes(54_000_000),
        scratch: Scratch::Mlas,
        packs_weights: true,
        node: Bytes(9_400),
        memory_error: MemoryError { below: 30, above: 30 },
        // One compiled model takes the place of all nodes.
        in_order: false,
        // 5 s for the 4,300 nodes of a U-net, without compiled models from before (`docs/facts/openvino.md` section 1).
        compile_s_per_node: 0.0012,
    },
    options: |_| vec![("device_type", "CPU".into()), (PROPERTIES, properties("CPU", &[])), (FOLDER, COMPILED.into())],
    doubts: Some(
        "the times of OpenVINO are those of ONNX Runtime's own kernels until this machine was measured with it (`vidc hw probe --provider openvino`)",
    ),
    memory_limit: None,
    folders: &[FOLDER],
    at_run: |options, threads| at_run("CPU", options, threads),
};

pub(super) static GPU: Target = Target {
    key: "openvino-gpu",
    name: "the OpenVINO provider on a GPU",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &["Intel"],
        not_vendors: &[],
        capability: None,
        systems: &["linux"],
        driver_files: &["/dev/dri/renderD128"],
    },
    options: |_| vec![("device_type", "GPU".into()), (PROPERTIES, properties("GPU", &[])), (FOLDER, COMPILED.into())],
    doubts: Some("no GPU of Intel has run a plan yet"),
    at_run: |options, _| at_run("GPU", options, 0),
    ..ROW
};

/// What the row says in standard operators.
const FORMS: Forms = Forms {
    table: &[(Form::TransposedUpsample, &[F32])],
    group_norm: None,
    layout: Layout::ChannelsLast,
    temporal_conv: TemporalConv::Flat,
    merges_linears: false,
    moves_views: true,
};

/// OpenVINO's properties: f32 is forced, because on a processor with units for bf16 it computes in bf16 without saying so (relative error
/// 1.5e-2, and slower). The options `precision` and `INFERENCE_PRECISION_HINT` of the plug-in are accepted and ignored.
fn properties(device: &str, others: &[(&str, String)]) -> String {
    let mut all = serde_json::Map::from_iter([("INFERENCE_PRECISION_HINT".to_owned(), "f32".into())]);
    all.extend(others.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())));
    serde_json::json!({ device: all }).to_string()
}

/// Threads are OpenVINO's own, and its folder of compiled models is taken among its properties alone.
fn at_run(device: &str, options: &mut BTreeMap<String, String>, threads: usize) {
    let folder = options.remove(FOLDER).map(|folder| ("CACHE_DIR", folder));
    let threads = (threads > 0).then(|| ("INFERENCE_NUM_THREADS", threads.to_string()));
    let others: Vec<(&str, String)> = threads.into_iter().chain(folder).collect();
    options.insert(PROPERTIES.into(), properties(device, &others));
}
