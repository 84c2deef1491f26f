//! What a probe writes: the profile of this machine, and the raw points beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::calibrate::{Calibrated, significant};
use super::measure::{Measured, Measurements, WholeCase};
use super::whole::Factors;
use crate::cost::fit::Point;
use crate::cost::latency::{MemoryKind, Work};
use crate::diag::{Diagnostic, Result};
use crate::files::write_atomic;
use crate::hwdb::{Calibration, Family, Figure, FittedParams, Host, PROBED, Precision, Profile, probed_words};

/// What the run says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Version of ONNX Runtime.
    pub engine_version: String,
    /// What calibrations of its provider call it.
    pub engine: String,
    /// Day, ISO 8601.
    pub date: String,
    /// The command as it was typed.
    pub command: String,
    /// Name of the file of raw points.
    pub points: String,
}

impl About {
    /// What was fitted, with where it comes from.
    fn calibration(&self, host: &Host, dispatch_s: f64, fits: &[FittedParams]) -> Calibration {
        Calibration {
            engine: self.engine.clone(),
            engine_version: self.engine_version.clone(),
            machine: probed_words(host),
            date: self.date.clone(),
            command: self.command.clone(),
            points: self.points.clone(),
            dispatch_us: significant(dispatch_s * 1e6),
            fits: fits.to_vec(),
        }
    }
}

/// The profile of the host: what was detected of it, with the figures that were measured.
pub fn profile_of(detected: &Profile, host: &Host, calibrated: &Calibrated, about: &About) -> Profile {
    let mut profile = detected.clone();
    let source = "probe";
    let figure = |value: f64, unit: &str| Some(Figure::new(significant(value), unit, source));
    let spec = &mut profile.spec;
    spec.fp32 = figure(calibrated.peak / 1e12, "TFLOPS");
    spec.memory_bandwidth = figure(calibrated.memory / 1e9, "GB/s");
    spec.l2 = figure(calibrated.cache / 1e6, "MB");
    spec.l2_bandwidth = figure(calibrated.cache_rate / 1e9, "GB/s");
    profile.power.sustained_factor = None;
    profile.sources.insert(source.into(), format!("`vidc hw probe` on {}: the best that ran", about.date));
    profile.doubts = Some("measured in about a minute; what else ran meanwhile makes figures worse".into());
    profile.calibration = Some(about.calibration(host, calibrated.dispatch, &calibrated.fits));
    profile
}

/// A profile with what was measured with another provider beside what it has.
#[must_use]
pub fn with_other(profile: &Profile, host: &Host, factors: &Factors, about: &About) -> Profile {
    let mut profile = profile.clone();
    profile.others.retain(|c| c.engine != about.engine);
    profile.others.push(about.calibration(host, factors.dispatch, &factors.fits));
    profile
}

/// Whole cases as CSV.
pub fn whole_points(measured: &[WholeCase]) -> String {
    let mut out = format!("{WHOLE_HEADER}\n");
    for m in measured {
        let _ = writeln!(out, "{},{},{:.4e},{:.4e}", m.case, m.nodes, m.run, m.load);
    }
    out
}

/// The file of raw points that belongs to a profile.
pub fn points_path(profile: &Path) -> PathBuf {
    profile.with_extension("csv")
}

/// The first line of raw points.
const HEADER: &str = "case,operator,class,work,seconds";
/// The first line of whole cases.
const WHOLE_HEADER: &str = "case,nodes,run,load";

/// Did a probe write this file? What it writes begins with a line that says so.
///
/// # Errors
/// Why it counts as somebody else's.
pub fn ours(path: &Path) -> std::result::Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("it cannot be read: {e}"))?;
    if [PROBED, HEADER, WHOLE_HEADER].iter().any(|first| text.starts_with(first)) {
        Ok(())
    } else {
        Err("`vidc hw probe` did not write it".into())
    }
}

/// Writes the profile; it appears whole or not at all.
///
/// # Errors
/// `io/unwritable`, `internal/bug` if the profile cannot be written as YAML.
pub fn write(profile: &Profile, (raw, raw_path): (&str, &Path), path: &Path) -> Result<()> {
    let text = text(profile)?;
    write_atomic(raw_path, |w| w.write_all(raw.as_bytes()))?;
    write_atomic(path, |w| w.write_all(text.as_bytes()))
}

/// The profile as YAML.
///
/// # Errors
/// `internal/bug`.
pub fn text(profile: &Profile) -> Result<String> {
    let broken = |e: String| Diagnostic::new("internal/bug", format!("the profile cannot be written: {e}"));
    let mut fields = serde_json::to_value(profile).map_err(|e| broken(e.to_string()))?;
    if let Some(fields) = fields.as_object_mut() {
        fields.shift_remove("origin");
    }
    let yaml = serde_saphyr::to_string(&fields).map_err(|e| broken(e.to_string()))?;
    Ok(format!("{PROBED}\n{yaml}"))
}

/// The raw points as CSV.
pub fn points(measured: &Measurements) -> String {
    let mut out = format!("{HEADER}\n");
    for m in &measured.kernels {
        let class = word(m.point.class);
        let _ = writeln!(out, "{},{},{class},{},{:.4e}", m.case, m.op, work_words(&m.point.work), m.point.seconds);
    }
    out
}

fn word(class: Family) -> String {
    serde_json::to_value(class).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Numbers of a work in the order of its fields.
fn work_words(work: &Work) -> String {
    let numbers = |what: &str, all: &[u64]| format!("{what} {}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    match *work {
        Work::Gemm { b, m, n, k, extra_bytes } => numbers("gemm", &[b, m, n, k, extra_bytes]),
        Work::Conv { batch, cin, cout, groups, kernel: [k0, k1, k2], out: [o0, o1, o2], in_elems, extra_bytes } => {
            numbers("conv", &[batch, cin, cout, groups, k0, k1, k2, o0, o1, o2, in_elems, extra_bytes])
        }
        Work::Attention { b, h, lq, lk, dh, fused, q_tiles } => numbers("attention", &[b, h, lq, lk, dh, u64::from(fused), q_tiles]),
        Work::Memory { read, written, .. } => numbers("memory", &[read, written]),
        Work::Free => "free".into(),
    }
}

/// Reads raw points again; a line that is none is left out.
pub fn read_points(text: &str) -> Vec<Measured> {
    text.lines().skip(1).filter_map(measured).collect()
}

fn measured(line: &str) -> Option<Measured> {
    let fields: Vec<&str> = line.split(',').collect();
    let [case, op, class, work, seconds] = fields[..] else { return None };
    let class: Family = serde_json::from_value(serde_json::Value::String(class.into())).ok()?;
    let point = Point { class, work: work_of(work, class)?, precision: Precision::F32, seconds: seconds.parse().ok()? };
    Some(Measured { case: case.into(), op: op.into(), point })
}

fn work_of(text: &str, class: Family) -> Option<Work> {
    let mut words = text.split(' ');
    let what = words.next()?;
    let n: Vec<u64> = words.map(|w| w.parse().ok()).collect::<Option<_>>()?;
    Some(match (what, &n[..]) {
        ("gemm", &[b, m, n, k, extra_bytes]) => Work::Gemm { b, m, n, k, extra_bytes },
        ("conv", &[batch, cin, cout, groups, k0, k1, k2, o0, o1, o2, in_elems, extra_bytes]) => {
            Work::Conv { batch, cin, cout, groups, kernel: [k0, k1, k2], out: [o0, o1, o2], in_elems, extra_bytes }
        }
        ("attention", &[b, h, lq, lk, dh, fused, q_tiles]) => Work::Attention { b, h, lq, lk, dh, fused: fused == 1, q_tiles },
        ("memory", &[read, written]) => Work::Memory { kind: kind(class)?, read, written },
        _ => return None,
    })
}

fn kind(class: Family) -> Option<MemoryKind> {
    Some(match class.broad() {
        Family::Elementwise => MemoryKind::Elementwise,
        Family::Activation => MemoryKind::Activation,
        Family::Norm => MemoryKind::Norm,
        Family::Softmax => MemoryKind::Softmax,
        Family::Transpose => MemoryKind::Transpose,
        Family::Copy => MemoryKind::Copy,
        Family::Resize => MemoryKind::Resize,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
