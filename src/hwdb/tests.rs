//! Tests of reading and resolving: every embedded profile, and what is refused.

#![expect(clippy::float_cmp, reason = "equal figures are meant to be equal to the last bit")]

use super::*;
use crate::units::Bytes;

fn rtx3090() -> String {
    embedded::text("rtx3090").unwrap().to_owned()
}

/// Codes and messages of what is wrong with the RTX 3090 after an edit.
fn check(from: &str, to: &str, expect: &[(&str, &str)]) {
    let text = rtx3090();
    assert!(text.contains(from), "{from}");
    let Diagnostics(found) = parse("mine.yaml", &text.replacen(from, to, 1)).unwrap_err();
    let got: Vec<(&str, &str)> = found.iter().map(|d| (d.code, d.message.as_str())).collect();
    assert_eq!(got, expect);
}

#[test]
fn every_embedded_profile_is_sound_and_resolves() {
    let database = Database::default();
    assert!(database.keys().len() >= 71);
    for (key, profile) in database.keys().iter().zip(database.list()) {
        let profile = profile.unwrap_or_else(|e| panic!("{key}: {e:?}"));
        assert_eq!(&profile.key, key);
        let m = Machine::new(&profile);
        assert!(m.dram > 1e9 && m.units >= 1.0 && m.memory > Bytes(1 << 30) && m.peaks.rate(Precision::F32) > 1e10, "{key}");
        assert_eq!(m.link.is_some(), profile.kind == DeviceKind::Gpu && !profile.unified_memory, "{key}");
        assert_eq!(m.compute_capability.is_some(), profile.vendor == "NVIDIA", "{key}");
    }
}

#[test]
fn an_unknown_device_names_every_key_that_it_may_mean() {
    let help = |key: &str| {
        let Diagnostics(found) = Database::default().load(key).unwrap_err();
        assert_eq!(found[0].code, "hwdb/unknown-device");
        found[0].help.clone().unwrap()
    };
    for (key, want) in [
        ("rtx3060", "did you mean `rtx3060-12gb`?"),
        ("RTX 3060", "did you mean `rtx3060-12gb`?"),
        ("4090", "did you mean `rtx4090`?"),
        ("h200", "did you mean `h200-sxm`?"),
        ("a100", "did you mean one of these? a100-pcie-40gb, a100-pcie-80gb, a100-sxm-40gb, a100-sxm-80gb"),
        ("rtx309", "did you mean one of these? rtx3090, rtx3090ti"),
        ("NVIDIA GeForce RTX 3090 Ti", "did you mean `rtx3090ti`?"),
        ("rtx3o90", "did you mean `rtx3090`?"),
        ("Apple M4 Max", "did you mean `m4-max`?"),
        ("7900 XTX", "did you mean `rx7900xtx`?"),
    ] {
        assert_eq!(help(key), want, "{key}");
    }
    assert!(!help("Tesla M40").contains("`m4`"), "another number is another device");
}

#[test]
fn figures_resolve_to_si_units() {
    let m = Machine::new(&Database::default().load("rtx3090").unwrap());
    assert_eq!((m.dram, m.units, m.l2, m.compute_capability), (936e9, 82.0, 6e6, Some((8, 6))));
    assert_eq!((m.peaks.rate(Precision::F16), m.peaks.rate(Precision::F16Acc16)), (71.2e12, 142.3e12));
    assert!((m.link.unwrap() - 25.2e9).abs() < 1.0, "0.8 of 31.5 GB/s");
    assert_eq!(m.provenance(), "prior:ga10x");
    assert!(!m.peaks.supports(Precision::Fp8));
    assert_eq!(m.peaks.rate(Precision::Fp8), 71.2e12, "fp8 without fp8 units runs as fp16");
}

#[test]
fn a_reported_memory_size_wins_over_the_one_sold() {
    let memory = |key: &str| Machine::new(&Database::default().load(key).unwrap()).memory;
    assert_eq!(memory("h100-sxm"), Bytes(84_942_979_072));
    assert_eq!(memory("l40s"), Bytes(47_803_531_264));
    assert!(memory("rtx3090") < Bytes(24 << 30) && memory("rtx3090") > Bytes(23 << 30));
}

#[test]
fn contradictions_are_refused_with_both_figures() {
    check(
        "fp16_tensor_fp32_accumulate: {value: 71.2",
        "fp16_tensor_fp32_accumulate: {value: 171.2",
        &[("hwdb/impossible-figure", "`fp16_tensor_fp32_accumulate` (171.2) exceeds `fp16_tensor_fp16_accumulate` (142.3)")],
    );
    check(
        "int8: {value: 284.7",
        "int8: {value: 100",
        &[("hwdb/impossible-figure", "`fp16_tensor_fp16_accumulate` (142.3) exceeds `int8` (100)")],
    );
    check(
        "pcie_bandwidth: {value: 31.5",
        "pcie_bandwidth: {value: 63",
        &[("hwdb/impossible-figure", "`pcie_bandwidth` is 63, but generation 4 with 16 lanes gives 31.50 GB/s")],
    );
    check(
        "threads_per_sm: {value: 1536",
        "threads_per_sm: {value: 2048",
        &[("hwdb/impossible-figure", "`threads_per_sm` is 2048, but compute capability 8.6 has 1536")],
    );
    check(
        "memory_bandwidth: {value: 936",
        "memory_bandwidth: {value: -936",
        &[
            ("hwdb/impossible-figure", "`memory_bandwidth` is -936"),
            ("hwdb/impossible-figure", "`memory_bandwidth` of -936 GB/s is that of no memory"),
        ],
    );
}

#[test]
fn only_devices_of_nvidia_have_a_compute_capability() {
    check("compute_capability: \"8.6\"\n", "", &[("hwdb/impossible-figure", "`architecture: ga10x` needs its `compute_capability`")]);
    for (key, family) in [("rx7900xtx", "rdna3"), ("m4-max", "apple9"), ("cpu-avx2", "cpu")] {
        let text = embedded::text(key).unwrap().to_owned() + "compute_capability: \"8.6\"\n";
        let Diagnostics(found) = parse("mine.yaml", &text).unwrap_err();
        let got: Vec<_> = found.iter().map(|d| (d.code, d.message.clone())).collect();
        let message = format!("`compute_capability` is 8.6, but `architecture: {family}` has no CUDA");
        assert_eq!(got, [("hwdb/impossible-figure", message)], "{key}");
    }
}

#[test]
fn devices_of_apple_and_amd_resolve_without_cuda() {
    let machine = |key: &str| Machine::new(&Database::default().load(key).unwrap());
    let (mac, amd) = (machine("m4-max"), machine("mi300x"));
    assert!(mac.unified && mac.link.is_none() && mac.link_pageable.is_none());
    assert_eq!((mac.units, mac.dram, mac.memory), (40.0, 546e9, Bytes(36 << 30)));
    assert_eq!(mac.peaks.rate(Precision::Int8), mac.peaks.rate(Precision::F32), "int8 without units runs as fp32");
    assert!(!mac.peaks.supports(Precision::Tf32) && mac.peaks.supports(Precision::Bf16) && !machine("m2").peaks.supports(Precision::Bf16));
    assert_eq!((amd.peaks.rate(Precision::F16), amd.peaks.rate(Precision::Fp8)), (1307.4e12, 2614.9e12));
    assert_eq!((amd.l2, amd.l2_rate, amd.unified), (256e6, 17e12, false));
    assert_eq!((mac.provenance(), amd.provenance()), ("prior:apple9".to_owned(), "prior:cdna3".to_owned()));
}

/// Products of RX 7900 XTX run at 0.42 of the rated fp32 peak; the prior must not promise the share of other cards.
#[test]
fn a_rate_that_counts_paired_instructions_has_a_prior_of_its_own() {
    let share = |key: &str, p: Precision| Machine::new(&Database::default().load(key).unwrap()).params(Family::Gemm, p).eta;
    assert!(share("rx7900xtx", Precision::F32) < 0.5 && share("rx7900xtx", Precision::F16) > 0.8);
    assert_eq!(share("rtx3090", Precision::F32), 0.95);
}

#[test]
fn units_and_sources_are_checked() {
    check(
        "936, unit: GB/s",
        "936000, unit: MB/s",
        &[
            ("hwdb/wrong-unit", "`memory_bandwidth` is in `MB/s`; its unit is `GB/s`"),
            ("hwdb/impossible-figure", "`memory_bandwidth` of 936000 GB/s is that of no memory"),
        ],
    );
    check(
        "936, unit: GB/s, source: row",
        "936, unit: GB/s, source: rwo",
        &[("hwdb/invalid-profile", "`memory_bandwidth` names the source `rwo`, which `sources` lacks")],
    );
}

#[test]
fn a_mistake_points_at_its_line() {
    let text = rtx3090().replacen("936, unit", "fast, unit", 1);
    let line = text.lines().position(|l| l.contains("fast")).unwrap() + 1;
    let Diagnostics(found) = parse("mine.yaml", &text).unwrap_err();
    assert_eq!(found[0].code, "hwdb/invalid-profile");
    assert_eq!(found[0].labels[0].span.line_column().0, line, "{found:?}");

    let text = rtx3090().replacen("{value: 936", "{value: 936e9", 1);
    let Diagnostics(found) = parse("mine.yaml", &text).unwrap_err();
    assert_eq!(found[0].labels[0].span.line_column().0, line, "{found:?}");
}

#[test]
fn unknown_and_repeated_keys_are_refused() {
    for extra in ["colour: red\n", "key: again\n"] {
        let Diagnostics(found) = parse("mine.yaml", &(rtx3090() + extra)).unwrap_err();
        assert_eq!(found[0].code, "hwdb/invalid-profile", "{extra}");
        assert_eq!(found[0].labels.len(), 1, "{extra}");
    }
    let Diagnostics(found) = parse("mine.yaml", &" ".repeat(profile::MAX_BYTES + 1)).unwrap_err();
    assert_eq!(found[0].code, "hwdb/invalid-profile");
}

#[test]
fn an_unknown_device_gets_the_nearest_name() {
    for (wrong, want) in [("rtx309", "rtx3090"), ("RTX 4090", "rtx4090"), ("h100_sxm", "h100-sxm"), ("../../etc/passwd", "there are ")] {
        let Diagnostics(found) = Database::default().load(wrong).unwrap_err();
        assert_eq!(found[0].code, "hwdb/unknown-device");
        assert!(found[0].help.as_ref().unwrap().contains(want), "{wrong}: {:?}", found[0].help);
    }
}

/// The key becomes a part of file names.
#[test]
fn the_key_of_a_profile_is_no_path() {
    for key in ["../x", "a/b", "/x", ".x", "A"] {
        let Diagnostics(found) = parse("mine.yaml", &rtx3090().replace("key: rtx3090", &format!("key: {key:?}"))).unwrap_err();
        assert!(found.iter().any(|d| d.code == "hwdb/invalid-profile" && d.message.contains("is not a key")), "{key}: {found:?}");
    }
}

#[test]
fn a_profile_of_the_user_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("rtx3090.yaml", rtx3090().replace("GeForce RTX 3090", "Mine"));
    write("my-card.yaml", rtx3090().replace("key: rtx3090", "key: my-card"));
    write("notes.txt", String::new());
    let database = Database::new(Some(folder.path().to_owned()));
    assert_eq!(database.load("rtx3090").unwrap().name, "Mine");
    assert!(matches!(database.load("my-card").unwrap().origin, Origin::User(_)));
    assert_eq!(database.keys().len(), Database::default().keys().len() + 1);
    let path = folder.path().join("my-card.yaml");
    assert_eq!(Database::default().load(path.to_str().unwrap()).unwrap().key, "my-card");
    assert_eq!(Database::default().load("missing.yaml").unwrap_err().0[0].code, "io/unreadable");
}

#[test]
fn a_profile_survives_json() {
    let profile = Database::default().load("cpu-avx2").unwrap();
    let json = serde_json::to_value(&profile).unwrap();
    assert_eq!(json["spec"]["cores"]["value"], 2.0);
    assert_eq!(json["origin"], "embedded");
}
