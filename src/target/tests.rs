//! The rows against each other, and the options of TensorRT as they are written.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::*;
use crate::weights::DType::{BF16, F16, F32, F64};

const RTX3090: Device<'_> =
    Device { key: "rtx3090", kind: DeviceKind::Gpu, vendor: "NVIDIA", capability: Some((8, 6)), systems: &["linux", "windows"] };

fn keys(device: &Device<'_>) -> Vec<&'static str> {
    fitting(device).iter().map(|row| row.key).collect()
}

#[test]
fn keys_are_words_of_their_own() {
    let keys: BTreeSet<&str> = ROWS.iter().map(|row| row.key).collect();
    assert_eq!(keys.len(), ROWS.len());
    assert!(keys.iter().all(|k| k.chars().all(|c| c.is_ascii_lowercase() || c == '-')) && !keys.contains("all"), "{keys:?}");
}

#[test]
fn a_device_gets_what_was_run_on_its_kind_first() {
    assert_eq!(keys(&RTX3090), ["cuda", "tensorrt-rtx", "tensorrt"]);
    assert_eq!(keys(&Device { capability: Some((9, 0)), ..RTX3090 }), ["cuda", "tensorrt"]);
    assert_eq!(keys(&Device { capability: Some((12, 0)), ..RTX3090 }), ["cuda", "tensorrt-rtx", "tensorrt"]);
    assert_eq!(keys(&Device { capability: Some((6, 1)), ..RTX3090 }), ["cuda"]);
    let host = Device { kind: DeviceKind::Cpu, vendor: "AMD", capability: None, ..RTX3090 };
    assert_eq!(keys(&host), ["cpu", "openvino"]);
    assert_eq!(keys(&Device { vendor: "Intel", capability: None, ..RTX3090 }), ["openvino-gpu"]);
    assert_eq!(keys(&Device { vendor: "AMD", capability: None, ..RTX3090 }), ["standard"]);
    assert_eq!(keys(&Device { vendor: "Apple", capability: None, systems: &["macos"], ..RTX3090 }), ["standard"]);
}

#[test]
fn a_provider_that_does_not_fit_says_why_and_what_does() {
    let refused = |key: &str, device: &Device<'_>| {
        let d = row_for(key, device).unwrap_err();
        (d.code, d.message.clone(), d.help.clone().unwrap_or_default())
    };
    let old = Device { key: "gtx1080ti", capability: Some((6, 1)), ..RTX3090 };
    let (code, message, help) = refused("tensorrt", &old);
    assert_eq!(code, "target/misfit");
    assert_eq!(
        message,
        "the TensorRT provider is not for `gtx1080ti`: it needs CUDA compute capability 7.5 or later, and this device has 6.1"
    );
    let h100 = Device { key: "h100-sxm", capability: Some((9, 0)), ..RTX3090 };
    assert!(
        refused("tensorrt-rtx", &h100).1.ends_with("it needs CUDA compute capability 8.6, 8.9, 12.0 or later, and this device has 9.0")
    );
    assert_eq!(help, "providers for it: cuda");
    let radeon = Device { key: "rx7900xtx", vendor: "AMD", capability: None, ..RTX3090 };
    assert!(refused("cuda", &radeon).1.ends_with("it needs a device of NVIDIA, and this one is of AMD"));
    assert!(refused("cpu", &RTX3090).1.ends_with("it runs on CPUs"));
    assert_eq!(
        refused("tensort", &RTX3090),
        ("target/unknown-provider", "there is no execution provider `tensort`".into(), "did you mean `tensorrt`?".into())
    );
}

#[test]
fn what_a_machine_lacks_is_said() {
    let nowhere = |_: &str| false;
    assert_eq!(cuda::ROW.fits.absence("linux", nowhere).as_deref(), Some("this machine shows no device of NVIDIA"));
    assert_eq!(cuda::ROW.fits.absence("linux", |f| f == "/dev/dxg"), None);
    assert_eq!(cuda::ROW.fits.absence("macos", nowhere).as_deref(), Some("it is for linux, windows, and this machine runs macos"));
    assert_eq!(cpu::ROW.fits.absence("macos", nowhere), None);
}

/// Every form that is one contrib kernel stands in the row's table of kernels, or in that of a row behind it, for all of its types.
#[test]
fn forms_have_kernels() {
    let contrib = [
        (Form::FusedAttention, "MultiHeadAttention"),
        (Form::QuickGelu, "QuickGelu"),
        (Form::ProductOfAnyRank, "FusedMatMul"),
        (Form::BiasGelu, "BiasGelu"),
        (Form::ResidualConv, "FusedConv"),
    ];
    for row in ROWS {
        for (form, op_type) in contrib {
            for ty in [F32, F16, BF16, F64].into_iter().filter(|ty| row.has(form, *ty)) {
                assert!(row.taker("com.microsoft", op_type, ty).is_some(), "{} {form:?} {ty}", row.key);
            }
        }
        for ty in row.forms.group_norm.iter().flat_map(|k| k.types) {
            assert!(row.kernels.has("com.microsoft", "GroupNorm", *ty), "{} {ty}", row.key);
        }
    }
}

#[test]
fn kernels_are_looked_up_by_domain_and_type() {
    let table = Kernels { text: "# of a test\nConv: f32 f16 # 2-D only\ncom.microsoft.Gelu: f32\nRandomNormal: any\n", widened: &[BF16] };
    let has = |domain, op_type, ty| table.has(domain, op_type, ty);
    assert!(has("", "Conv", F16) && has("", "Conv", BF16) && has("", "RandomNormal", F64) && has("com.microsoft", "Gelu", F32));
    assert!(!has("", "Conv", F64) && !has("", "Gelu", F32) && !has("com.microsoft", "Conv", F32) && !has("", "# of a test", F32));
}

#[test]
fn another_row_takes_what_one_has_no_kernel_for() {
    let taker = |op_type, ty| tensorrt::ROW.taker("com.microsoft", op_type, ty).map(|row| row.key);
    assert_eq!(taker("MultiHeadAttention", F16), Some("cuda"));
    assert_eq!(taker("NoSuchKernel", F16), None);
    assert_eq!(tensorrt::ROW.taker("", "Conv", F16).map(|row| row.key), Some("tensorrt"));
    assert_eq!(cuda::ROW.taker("", "Conv", BF16), None);
}

/// Options follow from what the plan decided, and from nothing else.
#[test]
fn options_of_each_provider() {
    let types = BTreeSet::from([F16, F32]);
    let inputs = [("sample".to_owned(), vec![2, 14, 8, 32, 32]), ("timestep".to_owned(), vec![1])];
    let asked = Asked { device: 1, types: &types, tf32: false, scratch: Bytes(48 << 20), inputs: &inputs };
    let text = |row: &Target| {
        let lines = |p: &Provider| {
            let options: Vec<String> = p.options.iter().map(|(name, value)| format!("  {name} = {value}")).collect();
            format!("{}\n{}", p.provider, options.join("\n"))
        };
        row.providers(&asked).iter().map(lines).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!("options_tensorrt", text(&tensorrt::ROW));
    insta::assert_snapshot!("options_cuda", text(&cuda::ROW));
    insta::assert_snapshot!("options_tensorrt_rtx", text(&tensorrt_rtx::ROW));
    insta::assert_snapshot!("options_openvino", text(&openvino::ROW));
    insta::assert_snapshot!("options_openvino_gpu", text(&openvino::GPU));
    assert_eq!(text(&cpu::ROW).trim(), "cpu");
    let exact = Asked { types: &BTreeSet::from([F32]), tf32: true, ..asked.clone() };
    let of = |row: &Target, name: &str| row.providers(&exact).iter().find_map(|p| p.options.get(name).cloned());
    assert_eq!(of(&tensorrt::ROW, "trt_fp16_enable").as_deref(), Some("0"));
    assert_eq!(of(&tensorrt::ROW, "use_tf32").as_deref(), Some("1"));
}

/// Threads are OpenVINO's own affair, and f32 stays forced whatever a run asks for.
#[test]
fn a_run_says_the_threads_of_openvino() {
    let mut options = BTreeMap::from([("cache_dir".to_owned(), "/plan/compiled".to_owned())]);
    (openvino::ROW.at_run)(&mut options, 2);
    let said = r#"{"CPU":{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":"2","CACHE_DIR":"/plan/compiled"}}"#;
    assert_eq!(options.into_iter().collect::<Vec<_>>(), [("load_config".to_owned(), said.to_owned())]);
}

/// Tables of wheels: every file has a hash and a size, links lead to files, and what is loaded is there.
#[test]
fn packages_hold_what_is_loaded() {
    for software in ROWS.iter().filter_map(|row| row.software) {
        let mut names = BTreeSet::from([software.library.file_name()]);
        names.extend(software.load_first);
        for build in software.packages.iter().flat_map(|p| p.builds) {
            let members: Vec<Member> = build.members().collect();
            assert_eq!(members.len() + build.links().count(), build.table.lines().count(), "{}", build.table);
            assert!(members.iter().all(|m| m.sha256.len() == 64 && m.bytes > 0 && build.download > 0), "{members:?}");
            assert!(build.links().all(|(_, target)| members.iter().any(|m| m.file_name() == target)));
            members.iter().for_each(|m| _ = names.remove(m.file_name()));
            build.links().for_each(|(name, _)| _ = names.remove(name));
        }
        assert!(names.is_empty(), "in no package: {names:?}");
    }
    assert!(ONNXRUNTIME.builds.iter().all(|b| b.members().count() == 1));
}
