//! Providers as rows: a row that stands in this file alone reaches the plan, and the plans of the rows of vidc are what they were.

use std::collections::BTreeMap;
use std::path::Path;

use vidc::hwdb::{self, Machine};
use vidc::passes::manager::Debugging;
use vidc::passes::{Checks, Choices, Planned};
use vidc::plan::{self, Manifest, Provenance};
use vidc::target::{
    self, Attach, DeviceKind, Figures, Fits, Form, Forms, Kernels, Layout, MemoryError, Narrow, Precision, Scratch, Target, TemporalConv,
};
use vidc::units::Bytes;
use vidc::weights::{DType, ParamSource};

use crate::reference::load;

/// A provider that nobody has: it knows one fused kernel of its own choice, wants bf16 and has an option.
static DUMMY: Target = Target {
    key: "dummy",
    name: "a provider of this test",
    fits: Fits {
        kind: DeviceKind::Gpu,
        vendors: &["NVIDIA"],
        not_vendors: &[],
        capability: None,
        systems: &["linux"],
        driver_files: &["/dev/dummy"],
    },
    attach: Attach::Missing("the provider of this test cannot be started"),
    software: None,
    behind: &[],
    kernels: Kernels {
        text: "Add: f32 bf16\nSub: f32 bf16\nMul: f32 bf16\nDiv: f32 bf16\nPow: f32 bf16\nSigmoid: f32 bf16\nGelu: f32 bf16\nSin: f32\nCos: f32\n\
               Exp: f32\nSqrt: f32 bf16\nMatMul: f32 bf16\nGemm: f32 bf16\nConv: f32 bf16\nSoftmax: f32 bf16\nInstanceNormalization: f32 bf16\n\
               LayerNormalization: f32 bf16\nReduceMean: f32 bf16\nReshape: any\nTranspose: any\nConcat: any\nSplit: any\nSlice: any\nExpand: any\n\
               Cast: any\nResize: f32 bf16\nPad: f32 bf16\ncom.microsoft.FusedConv: f32 bf16",
        widened: &[],
    },
    forms: Forms {
        table: &[(Form::ResidualConv, &[DType::F32, DType::BF16])],
        group_norm: None,
        layout: Layout::Planar,
        temporal_conv: TemporalConv::Flat,
        merges_linears: false,
        moves_views: false,
    },
    precisions: &[Narrow { precision: Precision::Bf16, native: false, searched: true }],
    figures: Figures {
        dispatch_s: 1e-3,
        engine: "dummy",
        stands_in: None,
        overhead: Bytes(1 << 20),
        scratch: Scratch::Workspace(Bytes(1 << 10)),
        packs_weights: false,
        node: Bytes(0),
        memory_error: MemoryError { below: 1, above: 2 },
        in_order: true,
        compile_s_per_node: 0.5,
    },
    options: |asked| vec![("half", u8::from(asked.types.contains(&DType::BF16)).to_string()), ("index", asked.device.to_string())],
    doubts: None,
    memory_limit: None,
    folders: &[],
    at_run: |_, _| {},
};

fn on(target: &'static Target) -> Planned {
    let machine = Machine::on(&hwdb::load("rtx4090").unwrap(), target);
    Planned::of(&load("svd-tiny"), &machine, &Debugging::default()).unwrap()
}

fn write(planned: &Planned, choices: &Choices, device: u32, folder: &Path) -> Manifest {
    let lowered = planned.compile(choices, Checks::Full).unwrap();
    let provenance = Provenance { weights: "random:1".into(), effects: vec![], predicted: None, device };
    plan::write(&lowered, planned.machine(), &ParamSource::Random { seed: 1 }, provenance, false, folder).unwrap()
}

/// How often each operator stands in a model.
fn operators(model: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for node in vidc::onnx::read(model).unwrap().graph.unwrap().node {
        *found.entry(format!("{}.{}", node.domain, node.op_type).trim_start_matches('.').to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn a_row_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let planned = on(&DUMMY);
    let machine = planned.machine();
    assert_eq!(
        (machine.dispatch.to_bits(), machine.overhead),
        (1e-3_f64.to_bits(), Bytes(1 << 20)),
        "its figures are those of the machine"
    );
    let mut choices = Choices::default();
    choices.set("unet.precision", "bf16");
    let plan = folder.path().join("plan");
    let manifest = write(&planned, &choices, 3, &plan);
    assert_eq!((manifest.provider.as_str(), manifest.device), ("dummy", 3));
    let options = |session: &str| {
        let entry = manifest.sessions.iter().find(|s| s.name == session).unwrap();
        assert_eq!(entry.providers.len(), 1);
        entry.providers[0].options.clone()
    };
    let want = |half: &str| BTreeMap::from([("half".to_owned(), half.to_owned()), ("index".to_owned(), "3".to_owned())]);
    assert_eq!(options("unet"), want("1"), "the choice of a precision reaches the options");
    assert_eq!(options("vae_decoder"), want("0"));
    let unet = operators(&plan.join("unet.onnx"));
    assert!(unet["com.microsoft.FusedConv"] > 0 && unet["Softmax"] > 0, "its own form is taken, the others are written out: {unet:?}");
    assert!(unet.keys().all(|op| !op.starts_with("com.microsoft") || op == "com.microsoft.FusedConv"), "{unet:?}");
}

#[test]
fn an_operator_that_no_provider_takes_is_an_error_at_compile() {
    let machine = hwdb::machine("cpu-avx2").unwrap();
    let planned = Planned::of(&load("svd-tiny"), &machine, &Debugging::default()).unwrap();
    let mut choices = Choices::default();
    choices.set("unet.precision", "bf16");
    let d = planned.compile(&choices, Checks::Full).unwrap_err();
    assert_eq!(d.code, "pass/no-kernel");
    assert!(d.message.contains("bf16, and the CPU provider has no kernel for it"), "{d}");
}

/// What the plans of the small graph for one card say of their providers, and which operators their models have.
#[test]
fn plans_of_each_provider() {
    for target in hwdb::load("rtx4090").unwrap().targets() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan");
        let mut choices = Choices::default();
        choices.set("unet.precision", "f16");
        let manifest = write(&on(target), &choices, 0, &plan);
        let mut lines = Vec::new();
        for s in &manifest.sessions {
            lines.push(format!("session {}", s.name));
            for p in &s.providers {
                lines.push(format!("  provider {}", p.provider));
                lines.extend(p.options.iter().map(|(name, value)| format!("    {name} = {value}")));
            }
            lines.extend(operators(&plan.join(&s.file)).iter().map(|(op, n)| format!("  {n} × {op}")));
            lines.extend(s.elsewhere.iter().map(|(node, provider)| format!("  {node} on {provider}")));
        }
        insta::assert_snapshot!(format!("plan_{}", target.key), lines.join("\n"));
    }
}

/// Where a plan runs is said in its manifest and nowhere else.
#[test]
fn another_device_changes_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let planned = on(target::row("tensorrt").unwrap());
    let files = |device: u32| {
        let plan = folder.path().join(device.to_string());
        write(&planned, &Choices::default(), device, &plan);
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        };
        std::fs::read_dir(plan).unwrap().map(read).collect::<BTreeMap<_, _>>()
    };
    let (first, second) = (files(0), files(1));
    assert!(first.len() > 4 && first.keys().eq(second.keys()));
    let changed: Vec<&String> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert_eq!(changed, ["manifest.json"]);
}

/// A plan from somebody else sets no option that its provider's row does not set, and names no folder but its own.
#[test]
fn options_in_a_manifest_are_those_of_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan");
    write(&on(target::row("tensorrt").unwrap()), &Choices::default(), 0, &plan);
    let path = plan.join("manifest.json");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let check = |provider: &str, name: &str, value: &str, want: &str| {
        let mut hostile = written.clone();
        let first = &mut hostile["sessions"][0]["providers"][0];
        first["provider"] = provider.into();
        first["options"][name] = value.into();
        std::fs::write(&path, hostile.to_string()).unwrap();
        let d = Manifest::read(&plan).unwrap_err();
        assert!(d.code == "plan/broken" && d.message.contains(want), "{name}={value}: {d:?}");
    };
    check("tensorrt", "trt_extra_plugin_lib_paths", "x.so", "`trt_extra_plugin_lib_paths` is no option of the TensorRT provider");
    for value in ["/x", "../x", "sub/x", ".."] {
        check("tensorrt", "trt_engine_cache_path", value, "leaves the plan");
    }
    check("nobody", "device_id", "0", "there is no execution provider `nobody`");
}
