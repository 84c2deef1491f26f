//! Which form of a model to keep, by measurement: every form is run beside the original at ONNX Runtime's defaults, in one process.
//!
//! The forms are levels of vidc by what the runtime may rewrite after it. The one at [`Level::None`] with all rewrites of the runtime is what
//! the runtime makes of the original, so a model is never written that is slower than the runtime's default beyond noise.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::candidate::{Candidate, ModelSource};
use super::inputs::{Dims, input_specs, random_inputs};
use super::model::Level;
use super::paired::{Paired, Round, Verdict, paired};
use super::sequential::Effort;
use crate::diag::Result;
use crate::onnx;
use crate::passes::manager::Debugging;
use crate::runtime::session::{Optimization, Runtime, SessionOptions};
use crate::target::Target;

/// A form of a model: what vidc changes and what the runtime may change after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// On the command line.
    pub key: &'static str,
    /// For tables.
    pub name: &'static str,
    /// What vidc changes.
    pub level: Level,
    /// Passes that are left out of that.
    pub without: &'static [&'static str],
    /// What the runtime changes.
    pub runtime: Optimization,
    /// What it leaves, see [`SessionOptions::disabled_optimizers`].
    pub disabled: &'static [&'static str],
}

/// The rewrite of the runtime that would find the shapes that [`Style::hides_shapes`] hides; vidc has folded all constants before it.
///
/// [`Style::hides_shapes`]: onnx::Style::hides_shapes
pub const CONSTANT_FOLDING: &str = "ConstantFolding";

/// A fused convolution with a residual is one that the runtime does not turn into its blocked layout (`NCHWc`), so it is not made for that.
const RESIDUALS: &[&str] = &["fuse-residual"];

/// The forms that are compared; the last is what the runtime makes of the original.
pub const FORMS: [Form; 4] = [
    Form { key: "vidc", name: "vidc", level: Level::Full, without: &[], runtime: Optimization::Disable, disabled: &[] },
    Form {
        key: "layouts",
        name: "vidc, then layouts of the runtime",
        level: Level::Full,
        without: RESIDUALS,
        runtime: Optimization::All,
        disabled: &[CONSTANT_FOLDING],
    },
    Form { key: "both", name: "vidc, then the runtime", level: Level::Full, without: RESIDUALS, runtime: Optimization::All, disabled: &[] },
    Form { key: "runtime", name: "the runtime alone", level: Level::None, without: &[], runtime: Optimization::All, disabled: &[] },
];

impl Form {
    /// The options of its sessions. A memory pattern only adds to what the arena holds (`docs/facts/ort.md` section 3).
    pub fn options(&self, threads: usize) -> SessionOptions {
        let disabled_optimizers = self.disabled.iter().map(|n| (*n).to_owned()).collect();
        SessionOptions { threads, optimization: self.runtime, disabled_optimizers, ..SessionOptions::default() }
    }

    /// What of the passes runs.
    pub fn debugging(&self) -> Debugging {
        Debugging { disable: self.without.iter().map(|id| (*id).to_owned()).collect(), ..Debugging::default() }
    }

    /// The form of a key.
    pub fn of_key(key: &str) -> Option<Self> {
        FORMS.into_iter().find(|f| f.key == key)
    }

    /// The form that was fastest in most of what was measured (`benches/optimize/README.md`), for who does not measure: layouts are those of
    /// ONNX Runtime's own kernels.
    pub fn usual(target: &Target) -> Self {
        FORMS[usize::from(target.is_builtin())]
    }
}

/// What was measured and which form to keep.
#[derive(Clone, Debug, Serialize)]
pub struct ChosenForm {
    /// Index into [`FORMS`].
    pub form: usize,
    /// The original first, then the forms.
    pub measured: Paired,
}

/// Measures the forms of a model, written to `forms` in the order of [`FORMS`], against the original with random inputs; each with the
/// options of its session.
///
/// # Errors
/// Those of making inputs, sessions and runs.
pub fn choose(
    runtime: &Runtime,
    original: (&Path, SessionOptions),
    forms: &[(PathBuf, SessionOptions)],
    dims: &Dims,
    effort: Effort,
    watch: &mut dyn FnMut(Round),
) -> Result<ChosenForm> {
    let (path, options) = original;
    let inputs = random_inputs(&input_specs(&onnx::read(path)?, dims)?, 1)?;
    let mut candidates = vec![Candidate::new("original", ModelSource::File(path.into()), options)];
    for (form, (file, options)) in FORMS.iter().zip(forms) {
        candidates.push(Candidate::new(form.name, ModelSource::File(file.clone()), options.clone()));
    }
    let measured = paired(runtime, &candidates, &inputs, effort, watch)?;
    let form = best(&measured);
    Ok(ChosenForm { form, measured })
}

/// The fastest form, unless it is slower than the original beyond noise.
fn best(measured: &Paired) -> usize {
    let rated = (1..=FORMS.len()).min_by(|a, b| measured.rows[*a].ratio.median.total_cmp(&measured.rows[*b].ratio.median)).unwrap_or(1);
    let fallback = FORMS.len();
    (if measured.verdict(rated) == Verdict::Slower { fallback } else { rated }) - 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::paired::CandidateTimes;
    use super::super::sequential::Stop;
    use super::super::statistics::Median;
    use super::*;

    /// Ratios to the original of the forms; the control stays within 2 %.
    fn check(ratios: [f64; 4], expect: usize) {
        let row = |ratio: f64, control: bool| CandidateTimes {
            name: String::new(),
            control,
            stopped: Stop::Rounds,
            times_s: vec![ratio],
            time_s: Median { median: ratio, low: ratio, high: ratio },
            best_s: ratio,
            ratio: Median { median: ratio, low: ratio, high: ratio },
            rel_l2: 0.0,
        };
        let mut rows = vec![row(1.0, false)];
        rows.extend(ratios.map(|r| row(r, false)));
        rows.push(row(1.02, true));
        assert_eq!(best(&Paired { rows, outputs: vec![] }), expect, "{ratios:?}");
    }

    #[test]
    fn the_fastest_is_kept_and_nothing_slower_than_the_default() {
        check([0.8, 0.9, 0.9, 1.0], 0);
        check([0.9, 0.7, 0.8, 1.0], 1);
        check([1.01, 1.3, 1.3, 1.2], 0);
        check([1.2, 1.3, 1.4, 1.1], 3);
    }
}
