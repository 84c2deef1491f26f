//! What must hold within one profile: units, known sources, and figures that do not contradict each other.

use std::sync::Arc;

use super::profile::{Calibration, ChipFamily, Figure, Profile, SCHEMA, span_at};
use crate::diag::{Diagnostic, Diagnostics, SourceText};
use crate::target::DeviceKind;

/// Theoretical rate of one PCI Express lane and direction, GB/s, after line coding: generations 1 to 6.
pub const PCIE_LANE_GB_S: [f64; 6] = [0.25, 0.5, 0.985, 1.969, 3.938, 7.563];

/// Shared memory per multiprocessor and per block in KiB and threads per multiprocessor, by compute capability
/// (CUDA programming guide, table of technical specifications).
const SHARED_MEMORY: [(&str, f64, f64, f64); 13] = [
    ("6.0", 64.0, 48.0, 2048.0),
    ("6.1", 96.0, 48.0, 2048.0),
    ("7.0", 96.0, 96.0, 2048.0),
    ("7.5", 64.0, 64.0, 1024.0),
    ("8.0", 164.0, 163.0, 2048.0),
    ("8.6", 100.0, 99.0, 1536.0),
    ("8.7", 164.0, 163.0, 1536.0),
    ("8.9", 100.0, 99.0, 1536.0),
    ("9.0", 228.0, 227.0, 2048.0),
    ("10.0", 228.0, 227.0, 2048.0),
    ("10.3", 228.0, 227.0, 2048.0),
    ("12.0", 100.0, 99.0, 1536.0),
    ("12.1", 100.0, 99.0, 1536.0),
];

struct Check<'a> {
    profile: &'a Profile,
    source: &'a Arc<SourceText>,
    found: &'a mut Diagnostics,
}

/// Adds every mistake of `profile` to `found`.
pub(super) fn validate(profile: &Profile, source: &Arc<SourceText>, found: &mut Diagnostics) {
    let mut check = Check { profile, source, found };
    check.header();
    check.figures();
    check.rates();
    check.link();
    check.shared_memory();
    check.calibration();
    check.targets();
}

impl Check<'_> {
    fn refuse(&mut self, code: &'static str, message: String, figure: Option<&Figure>, help: &str) {
        let span = figure.map(|f| span_at(self.source, f.value.defined));
        self.found.push(Diagnostic::new(code, message).maybe_at(span.as_ref(), "this figure").help(help));
    }

    fn impossible(&mut self, message: String, figure: Option<&Figure>) {
        self.refuse("hwdb/impossible-figure", message, figure, "correct the figure, or leave it out if it is not known");
    }

    fn header(&mut self) {
        let p = self.profile;
        if p.schema != SCHEMA {
            let message = format!("the profile has schema {}; this vidc reads {SCHEMA}", p.schema);
            self.refuse("hwdb/invalid-profile", message, None, "use the vidc that wrote it, or `vidc hw show` of this one to start anew");
        }
        if !is_key(&p.key) {
            let message = format!("`{}` is not a key: use lower-case letters, digits, `-` and `.`", p.key);
            self.refuse("hwdb/invalid-profile", message, None, "the key is what `--hw` takes");
        }
        if (p.kind == DeviceKind::Cpu) != (p.architecture == ChipFamily::Cpu) {
            self.impossible(format!("`kind` and `architecture: {}` disagree", p.architecture.name()), None);
        }
        let needed = [
            ("fp32", p.spec.fp32.is_some()),
            ("memory_bandwidth", p.spec.memory_bandwidth.is_some()),
            ("usable_memory", p.spec.usable_memory.is_some()),
        ];
        let units = ("sm_count or cores", p.spec.sm_count.is_some() || p.spec.cores.is_some());
        for (name, there) in needed.into_iter().chain([units]) {
            if !there {
                self.impossible(format!("`spec` lacks `{name}`, without which nothing can be predicted"), None);
            }
        }
    }

    fn figures(&mut self) {
        let p = self.profile;
        for (name, unit, figure) in p.spec.figures().chain(p.power.figures()) {
            let value = figure.value.value;
            if figure.unit != unit {
                let message = format!("`{name}` is in `{}`; its unit is `{unit}`", figure.unit);
                self.refuse("hwdb/wrong-unit", message, Some(figure), "convert the value and write the unit of the field");
            }
            if !p.sources.contains_key(&figure.source) {
                let known = p.sources.keys().map(String::as_str);
                let help = crate::diag::suggest(&figure.source, known);
                self.refuse(
                    "hwdb/invalid-profile",
                    format!("`{name}` names the source `{}`, which `sources` lacks", figure.source),
                    Some(figure),
                    &help,
                );
            }
            // 1e15 is beyond any figure in its unit (bytes of memory are the largest).
            if !(0.0..1e15).contains(&value) || (value == 0.0 && name != "nvlink_bandwidth") {
                self.impossible(format!("`{name}` is {value}"), Some(figure));
            }
        }
        if let Some(f) = &p.power.sustained_factor
            && f.value.value > 1.0
        {
            self.impossible(format!("`sustained_factor` is {}; it is a share of the rated clock", f.value.value), Some(f));
        }
    }

    /// `small` must not exceed `large`.
    fn order(&mut self, small: (&str, Option<&Figure>), large: (&str, Option<&Figure>)) {
        if let ((a, Some(x)), (b, Some(y))) = (small, large)
            && x.value.value > y.value.value * 1.001
        {
            self.impossible(format!("`{a}` ({}) exceeds `{b}` ({})", x.value.value, y.value.value), Some(x));
        }
    }

    fn rates(&mut self) {
        let s = &self.profile.spec;
        let fp16 = s.fp16_tensor_fp16_accumulate.as_ref();
        self.order(("fp16_tensor_fp32_accumulate", s.fp16_tensor_fp32_accumulate.as_ref()), ("fp16_tensor_fp16_accumulate", fp16));
        self.order(
            ("fp8_tensor_fp32_accumulate", s.fp8_tensor_fp32_accumulate.as_ref()),
            ("fp8_tensor_fp16_accumulate", s.fp8_tensor_fp16_accumulate.as_ref()),
        );
        self.order(
            ("shared_memory_per_block", s.shared_memory_per_block.as_ref()),
            ("shared_memory_per_sm", s.shared_memory_per_sm.as_ref()),
        );
        // Pascal and Volta have int8 only as dp4a on the ordinary cores.
        if !matches!(self.profile.architecture, ChipFamily::Pascal | ChipFamily::Volta) {
            self.order(("fp16_tensor_fp16_accumulate", fp16), ("int8", s.int8.as_ref()));
        }
        if let (Some(sold), Some(usable)) = (&s.memory, &s.usable_memory)
            && usable.value.value > sold.value.value * 1.1 * f64::from(1 << 30)
        {
            self.impossible(
                format!("`usable_memory` ({} B) exceeds `memory` ({} GiB)", usable.value.value, sold.value.value),
                Some(usable),
            );
        }
        if let Some(bandwidth) = &s.memory_bandwidth
            && !(1.0..=100_000.0).contains(&bandwidth.value.value)
        {
            self.impossible(format!("`memory_bandwidth` of {} GB/s is that of no memory", bandwidth.value.value), Some(bandwidth));
        }
    }

    fn link(&mut self) {
        let s = &self.profile.spec;
        let (Some(generation), Some(lanes), Some(rate)) = (&s.pcie_generation, &s.pcie_lanes, &s.pcie_bandwidth) else { return };
        let table = PCIE_LANE_GB_S.get((generation.value.value as usize).wrapping_sub(1));
        match table.map(|lane| lane * lanes.value.value) {
            None => self.impossible(format!("there is no PCI Express generation {}", generation.value.value), Some(generation)),
            Some(want) if (rate.value.value / want - 1.0).abs() > 0.02 => {
                let message = format!(
                    "`pcie_bandwidth` is {}, but generation {} with {} lanes gives {want:.2} GB/s",
                    rate.value.value, generation.value.value, lanes.value.value
                );
                self.impossible(message, Some(rate));
            }
            Some(_) => {}
        }
    }

    fn shared_memory(&mut self) {
        let p = self.profile;
        let Some(capability) = &p.compute_capability else {
            if p.architecture.has_cuda() {
                self.impossible(format!("`architecture: {}` needs its `compute_capability`", p.architecture.name()), None);
            }
            return;
        };
        if !p.architecture.has_cuda() {
            let message = format!("`compute_capability` is {capability}, but `architecture: {}` has no CUDA", p.architecture.name());
            return self.impossible(message, None);
        }
        let Some((_, sm, block, threads)) = SHARED_MEMORY.iter().find(|row| row.0 == capability) else {
            let known: Vec<&str> = SHARED_MEMORY.iter().map(|row| row.0).collect();
            return self.impossible(format!("vidc knows no compute capability {capability}; there is: {}", known.join(", ")), None);
        };
        let have = [
            ("shared_memory_per_sm", &p.spec.shared_memory_per_sm, sm),
            ("shared_memory_per_block", &p.spec.shared_memory_per_block, block),
            ("threads_per_sm", &p.spec.threads_per_sm, threads),
        ];
        for (name, figure, want) in have {
            if let Some(f) = figure
                && (f.value.value - want).abs() > 0.5
            {
                self.impossible(format!("`{name}` is {}, but compute capability {capability} has {want}", f.value.value), Some(f));
            }
        }
    }

    /// What is wrong otherwise is the reason already.
    fn targets(&mut self) {
        if self.found.0.is_empty() && self.profile.targets().is_empty() {
            self.impossible("no execution provider is for such a device (`vendor`, `kind`, `compute_capability`)".into(), None);
        }
    }

    fn calibration(&mut self) {
        let profile = self.profile;
        profile.calibration.iter().chain(&profile.others).for_each(|c| self.one_calibration(c));
    }

    fn one_calibration(&mut self, calibration: &Calibration) {
        for f in &calibration.fits {
            let positive = [f.eta, f.eta_w, f.t0_us].iter().all(|x| x.is_finite() && *x > 0.0 && *x < 1e6);
            let bounded = (0.0..=4.0).contains(&f.gamma)
                && (0.0..=1.0).contains(&f.rho)
                && (0.0..=1e5).contains(&f.k0)
                && (0.0..10.0).contains(&f.error);
            if !positive || !bounded {
                self.impossible(format!("the fit of `{:?}` has a parameter out of its range", f.family), None);
            }
        }
        if !(calibration.dispatch_us.is_finite() && (0.0..1e6).contains(&calibration.dispatch_us)) {
            self.impossible(format!("`dispatch_us` is {}", calibration.dispatch_us), None);
        }
    }
}

/// True for what a key may be: nothing that could name another folder.
pub(super) fn is_key(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    !key.is_empty() && key.len() <= 64 && !key.starts_with('.') && key.chars().all(plain)
}
