//! Tests of the formulas: hand-computed cases, what is monotone, and speed. Accuracy is tested beside the fit.

#![expect(clippy::float_cmp, reason = "equal figures are meant to be equal to the last bit")]

use proptest::prelude::*;

use super::*;
use crate::hwdb::{Database, ParamOrigin};

fn machine(key: &str) -> Machine {
    Machine::new(&Database::default().load(key).unwrap())
}

fn gemm_work(m: u64, n: u64, k: u64) -> Work {
    Work::Gemm { b: 1, m, n, k, extra_bytes: 0 }
}

fn self_attention(lq: u64, fused: bool, q_tiles: u64) -> Work {
    Work::Attention { b: 2, h: 5, lq, lk: lq, dh: 64, fused, q_tiles }
}

fn add(bytes: u64) -> Work {
    Work::Memory { kind: MemoryKind::Elementwise, read: 2 * bytes, written: bytes }
}

fn seconds(work: &Work, p: Precision, m: &Machine) -> f64 {
    latency(work, p, m).time.secs()
}

#[test]
fn a_large_product_is_peak_times_efficiency() {
    let m = machine("a100-sxm-80gb");
    let e = latency(&gemm_work(8192, 8192, 8192), Precision::F16, &m);
    assert_eq!(e.flop, Flop(2 * 8192 * 8192 * 8192));
    let ideal = e.flop.0 as f64 / (311.9e12 * 0.9 * 0.95);
    assert!((1.0..1.15).contains(&(e.compute_time.secs() / ideal)), "{e:?}");
    assert!(e.memory_time < e.compute_time && e.time > e.compute_time);
}

#[test]
fn a_large_copy_is_bytes_over_bandwidth() {
    let m = machine("h100-sxm");
    let work = Work::Memory { kind: MemoryKind::Copy, read: 1 << 30, written: 1 << 30 };
    let e = latency(&work, Precision::F16, &m);
    let want = 3e-6 + (2u64 << 30) as f64 / (3352e9 * 0.8);
    assert!((e.time.secs() / want - 1.0).abs() < 1e-6, "{e:?}");
    assert_eq!(e.dram_bytes, Bytes(2 << 30));
    assert!(e.compute_time.secs() < 0.1 * e.memory_time.secs());
}

#[test]
fn one_more_block_than_units_costs_most_of_another_wave() {
    let mut m = machine("a100-sxm-80gb");
    let mut params = *m.params(Family::Gemm, Precision::F16);
    params.rho = 1.0;
    m.set_params(Family::Gemm, params);
    // 108 units; tall products with one tile column of 256 x 128.
    let blocks = |b: u64| {
        let work = Work::Gemm { b, m: 256, n: 128, k: 4096, extra_bytes: 0 };
        latency(&work, Precision::F16, &m).compute_time.secs()
    };
    assert_eq!(blocks(100).to_bits(), blocks(108).to_bits());
    assert!((1.2..=2.0).contains(&(blocks(109) / blocks(108))), "smaller tiles soften the step");
}

#[test]
fn half_precision_accumulation_doubles_geforce_and_misaligned_channels_halve_it() {
    let m = machine("rtx3090");
    let compute = |n, p| latency(&gemm_work(9216, n, 1280), p, &m).compute_time.secs();
    assert!((compute(1280, Precision::F16) / compute(1280, Precision::F16Acc16) - 2.0).abs() < 0.01);
    assert!(compute(1279, Precision::F16) > 1.9 * compute(1272, Precision::F16));
    assert!(compute(1279, Precision::F32) <= compute(1280, Precision::F32));
}

#[test]
fn convolution_is_an_implicit_product() {
    let m = machine("rtx3090");
    let conv = Work::Conv {
        batch: 14,
        cin: 320,
        cout: 640,
        groups: 1,
        kernel: [1, 3, 3],
        out: [1, 32, 32],
        in_elems: 14 * 320 * 1024,
        extra_bytes: 0,
    };
    let e = latency(&conv, Precision::F16, &m);
    assert_eq!(e.flop, latency(&gemm_work(14 * 1024, 640, 320 * 9), Precision::F16, &m).flop);
    assert_eq!(e.dram_bytes, Bytes(2 * (14 * 320 * 1024 + 320 * 640 * 9 + 14 * 640 * 1024)));
}

#[test]
fn fused_attention_beats_plain_and_parts_cost_a_launch_each() {
    let m = machine("rtx4090");
    let t = |fused, parts| seconds(&self_attention(9216, fused, parts), Precision::F16, &m);
    assert!(t(true, 1) < t(false, 1));
    assert!(t(true, 1) < t(true, 4) && t(true, 4) < t(true, 1) * 1.3);
    let bytes = |fused| latency(&self_attention(9216, fused, 1), Precision::F16, &m).dram_bytes;
    assert!(bytes(false).0 > 50 * bytes(true).0);
}

#[test]
fn a_tensor_in_the_cache_is_read_faster() {
    let m = machine("rtx4090");
    let rate = |bytes: u64| bytes as f64 * 3.0 / latency(&add(bytes), Precision::F16, &m).memory_time.secs();
    assert!(rate(4 << 20) > 1.9 * rate(256 << 20));
}

#[test]
fn emulated_half_precision_is_never_faster_on_a_cpu() {
    let m = machine("cpu-avx2");
    let works = [gemm_work(1024, 1280, 1280), self_attention(1024, true, 1), self_attention(256, false, 2)];
    for work in works {
        for p in [Precision::F16, Precision::Bf16, Precision::F16Acc16] {
            assert!(seconds(&work, p, &m) > seconds(&work, Precision::F32, &m), "{work:?} {p:?}");
        }
    }
    assert!(seconds(&add(1 << 20), Precision::F16, &m) > seconds(&add(2 << 20), Precision::F32, &m));
}

#[test]
fn nothing_costs_nothing() {
    let e = latency(&Work::Free, Precision::F16, &machine("rtx3090"));
    assert_eq!((e.time, e.flop, e.dram_bytes, e.sigma_rel), (Time(0), Flop(0), Bytes(0), 0.0));
}

#[test]
fn priors_say_so_in_sigma() {
    let m = machine("rtx3090");
    assert_eq!(latency(&add(1), Precision::F16, &m).sigma_rel, 0.20);
    assert_eq!(latency(&gemm_work(1, 1, 1), Precision::F16, &m).sigma_rel, 0.25);
    assert_eq!(m.params(Family::Conv, Precision::F16).provenance.to_string(), "prior:ga10x");
    assert_eq!(machine("cpu-avx2").params(Family::Conv, Precision::F32).provenance, ParamOrigin::Measured);
}

#[test]
fn dispatch_bounds_a_gpu_stage_and_adds_to_a_cpu_stage() {
    let (gpu, cpu) = (machine("h100-sxm"), machine("cpu-avx2"));
    let ms = |x: f64| Time::from_secs(x * 1e-3);
    assert_eq!(stage_time(ms(1.0), 1000, &gpu), ms(8.0));
    assert_eq!(stage_time(ms(20.0), 1000, &gpu), ms(20.0));
    assert_eq!(stage_time(ms(20.0), 1000, &cpu), ms(20.28));
}

#[test]
fn transfers_use_the_pinned_rate_and_cost_nothing_in_shared_memory() {
    let gpu = machine("rtx3090");
    let gib = Bytes(1 << 30);
    assert!((transfer_time(gib, true, &gpu).secs() - (1e-5 + 1.073_741_824 / 25.2)).abs() < 1e-9);
    assert!(transfer_time(gib, false, &gpu) > transfer_time(gib, true, &gpu) * 2);
    for key in ["cpu-avx2", "jetson-agx-orin-64gb"] {
        assert_eq!(transfer_time(gib, true, &machine(key)), Time(0), "{key}");
    }
}

#[test]
fn absurd_sizes_saturate_instead_of_overflowing() {
    let m = machine("rtx3090");
    let huge = u64::MAX;
    let conv = Work::Conv {
        batch: huge,
        cin: 1 << 40,
        cout: huge >> 8,
        groups: 0,
        kernel: [huge; 3],
        out: [huge; 3],
        in_elems: huge,
        extra_bytes: huge,
    };
    for work in
        [gemm_work(huge, huge >> 8, huge >> 8), conv, self_attention(huge, true, 1), add(huge / 3), self_attention(huge, false, huge)]
    {
        assert!(latency(&work, Precision::F16, &m).time.secs() > 1.0, "{work:?}");
    }
    let empty = Work::Gemm { b: 0, m: 0, n: 0, k: 0, extra_bytes: 0 };
    assert!(latency(&empty, Precision::F16, &m).time.secs() < 1e-4);
}

/// Sizes of one alignment class: multiples of 16.
fn size() -> impl Strategy<Value = u64> {
    (1u64..600).prop_map(|x| 16 * x)
}

fn any_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["rtx3090", "h100-sxm", "t4", "gtx1080ti", "b200", "cpu-avx2", "cpu-avx512", "jetson-orin-nx-16gb"])
}

fn any_precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(Precision::ALL.to_vec())
}

fn any_work() -> impl Strategy<Value = Work> {
    let gemm = (1u64..20, size(), size(), size()).prop_map(|(b, m, n, k)| Work::Gemm { b, m, n, k, extra_bytes: 0 });
    let conv = (1u64..20, size(), size(), 1u64..64).prop_map(|(batch, cin, cout, side)| Work::Conv {
        batch,
        cin,
        cout,
        groups: 1,
        kernel: [1, 3, 3],
        out: [1, side, side],
        in_elems: batch * cin * side * side,
        extra_bytes: 0,
    });
    let attention = (1u64..9, size(), size(), any::<bool>(), 1u64..5).prop_map(|(h, lq, lk, fused, q_tiles)| Work::Attention {
        b: 2,
        h,
        lq,
        lk,
        dh: 64,
        fused,
        q_tiles,
    });
    prop_oneof![gemm, conv, attention, (1u64..1 << 32).prop_map(add)]
}

/// The same work with one factor larger, alignment kept.
fn larger(work: Work, which: u8, by: u64) -> Work {
    match (work, which % 4) {
        (Work::Gemm { b, m, n, k, extra_bytes }, 0) => Work::Gemm { b, m: m + 16 * by, n, k, extra_bytes },
        (Work::Gemm { b, m, n, k, extra_bytes }, 1) => Work::Gemm { b, m, n: n + 16 * by, k, extra_bytes },
        (Work::Gemm { b, m, n, k, extra_bytes }, 2) => Work::Gemm { b, m, n, k: k + 16 * by, extra_bytes },
        (Work::Gemm { b, m, n, k, extra_bytes }, _) => Work::Gemm { b, m, n, k, extra_bytes: extra_bytes + by },
        (Work::Conv { batch, cin, cout, groups, kernel, out, in_elems, extra_bytes }, w) => {
            let add = |on: u8| if w == on { 16 * by } else { 0 };
            let grown = out.map(|x| if w == 2 && x > 1 { x + by } else { x });
            Work::Conv { batch: batch + add(3), cin: cin + add(0), cout: cout + add(1), groups, kernel, out: grown, in_elems, extra_bytes }
        }
        (Work::Attention { b, h, lq, lk, dh, fused, q_tiles }, w) => {
            let add = |on: u8| if w == on { 16 * by } else { 0 };
            Work::Attention { b: b + add(0), h: h + add(1), lq: lq + q_tiles * add(2), lk: lk + add(3), dh, fused, q_tiles }
        }
        (Work::Memory { kind, read, written }, _) => Work::Memory { kind, read: read + by, written },
        (Work::Free, _) => Work::Free,
    }
}

proptest! {
    #[test]
    fn more_work_never_takes_less_time(work in any_work(), which: u8, by in 1u64..100, key in any_key(), p in any_precision()) {
        let m = machine(key);
        let (small, large) = (latency(&work, p, &m), latency(&larger(work, which, by), p, &m));
        // One picosecond is the rounding.
        prop_assert!(small.time.0 <= large.time.0 + 1, "{work:?} {small:?} {large:?}");
    }

    #[test]
    fn more_bandwidth_or_rate_is_never_slower(work in any_work(), by in 1.0f64..8.0, key in any_key(), p in any_precision()) {
        let m = machine(key);
        let before = latency(&work, p, &m).time;
        let mut wide = m.clone();
        wide.dram *= by;
        wide.l2_rate = wide.l2_rate.max(wide.dram);
        let mut fast = m.clone();
        fast.sustained *= by;
        let mut cached = m;
        cached.l2 *= by;
        for other in [Box::new(wide), Box::new(fast), Box::new(cached)] {
            prop_assert!(latency(&work, p, &other).time.0 <= before.0 + 1, "{work:?} {}", other.dram);
        }
    }

    #[test]
    fn the_joined_time_lies_between_the_larger_side_and_the_sum(work in any_work(), key in any_key()) {
        let m = machine(key);
        let e = latency(&work, Precision::F32, &m);
        let larger = e.compute_time.max(e.memory_time);
        let several = matches!(work, Work::Attention { .. });
        prop_assert!(e.time >= larger || several);
        let fixed = 5.6e-6 * 3.0 * 5.0 + 1e-4;
        prop_assert!(e.time.secs() <= e.compute_time.secs() + e.memory_time.secs() + fixed);
    }
}

/// Published by ONNX Runtime (pull request 21629): fp16 attention, 16 sequences of 256 tokens, flash kernel on H100, 183 TFLOP/s.
/// Heads are not stated there: 16 of size 128 are assumed, so this checks the order of size, not the formula.
#[test]
fn short_attention_on_h100_is_near_the_published_rate() {
    let work = Work::Attention { b: 16, h: 16, lq: 256, lk: 256, dh: 128, fused: true, q_tiles: 1 };
    let e = latency(&work, Precision::F16, &machine("h100-sxm"));
    let rate = e.flop.0 as f64 / e.time.secs() / 1e12;
    assert!((rate / 183.0 - 1.0).abs() < 0.25, "{rate}");
}
