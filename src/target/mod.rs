//! What runs a plan's operators: one row for each execution provider of ONNX Runtime, a file each.
//!
//! A [`Target`] says which devices the provider is for, which operators and element types it has kernels for, which forms of the
//! raised operators it runs well, what it takes in memory and time beside the kernels, which options its sessions get, and how it is
//! attached to a session. Everything else asks the row and never its name: the passes choose forms by it, the cost model takes its
//! figures, a plan records its options, the runtime attaches it.
//!
//! A new provider is a new file here and its line in [`ROWS`].

mod cpu;
mod cuda;
mod device;
mod forms;
mod kernels;
mod openvino;
mod options;
mod package;
mod precision;
mod standard;
mod tensorrt;
mod tensorrt_rtx;

pub use device::{Capabilities, Device, DeviceKind, Fits};
pub use forms::{Form, Forms, GroupNormKernel, Layout, TemporalConv};
pub use kernels::Kernels;
pub use options::{Asked, Provider};
pub use package::{Build, Library, Member, ONNXRUNTIME, Package, Software};
pub use precision::Precision;

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Result, suggest};
use crate::files::is_bare;
use crate::units::Bytes;
use crate::weights::DType;

/// Every row. The first that fits a device is the one that it gets when nobody names another, so what was never run on a kind of
/// device stands behind what was.
pub static ROWS: [&Target; 7] = [&cpu::ROW, &openvino::ROW, &openvino::GPU, &cuda::ROW, &tensorrt_rtx::ROW, &tensorrt::ROW, &standard::ROW];

/// An execution provider as vidc uses it.
pub struct Target {
    /// What `--provider` takes.
    pub key: &'static str,
    /// Its name in sentences.
    pub name: &'static str,
    /// Which devices it is for.
    pub fits: Fits,
    /// How it comes into a session.
    pub attach: Attach,
    /// What vidc fetches for it; nothing if it is part of ONNX Runtime, or comes with a build of the user's.
    pub software: Option<&'static Software>,
    /// Rows that take what this one has no kernel for; an operator that none of them takes either is an error.
    pub behind: &'static [&'static Target],
    /// Operators and element types that it has kernels for.
    pub kernels: Kernels,
    /// What raised operators become.
    pub forms: Forms,
    /// Precisions of a model beside fp32.
    pub precisions: &'static [Narrow],
    /// What it takes beside the kernels.
    pub figures: Figures,
    /// The options of a session, in ONNX Runtime's names, from what the plan decided.
    pub options: fn(&Asked<'_>) -> Vec<(&'static str, String)>,
    /// What is doubtful about its predictions, as a sentence for users.
    pub doubts: Option<&'static str>,
    /// The option that caps what a session's tensors and weights may take of the device, bytes; memory of the host is capped by the allocator
    /// of runs.
    pub memory_limit: Option<&'static str>,
    /// Options whose value is a folder of the plan; a run makes it absolute.
    pub folders: &'static [&'static str],
    /// Changes the options by what only a run knows: the threads of one operator, 0 where ONNX Runtime decides.
    pub at_run: fn(&mut BTreeMap<String, String>, usize),
}

/// How a provider comes into a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// It is part of every ONNX Runtime.
    Builtin,
    /// The CUDA provider of a GPU build.
    Cuda,
    /// The TensorRT provider of a GPU build, beside the libraries of TensorRT.
    TensorRt,
    /// A plug-in of any build, which calls itself so.
    Plugin(&'static str),
    /// Not yet: plans for it are costed and cannot be run. What is missing, as a sentence.
    Missing(&'static str),
}

/// A precision that a model may have, with what speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// The precision.
    pub precision: Precision,
    /// Only on devices that have units for it?
    pub native: bool,
    /// May a search take it? Else only who asks for it gets it.
    pub searched: bool,
}

/// What a provider takes beside its kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Dispatching one node, seconds; a measured profile has its own figure.
    pub dispatch_s: f64,
    /// What calibrations of this provider call their engine.
    pub engine: &'static str,
    /// The engine whose calibration stands for it where it was not measured itself.
    pub stands_in: Option<&'static str>,
    /// Memory taken before any tensor: context of the driver, code, handles.
    pub overhead: Bytes,
    /// Memory that a kernel takes while it runs.
    pub scratch: Scratch,
    /// Does a session keep weights of products a second time, in the layout of its kernels?
    pub packs_weights: bool,
    /// What a session keeps for each node.
    pub node: Bytes,
    /// How far predicted peaks of memory are off.
    pub memory_error: MemoryError,
    /// Do nodes run one after the other in ONNX Runtime's order? An engine that is built of them has an order of its own.
    pub in_order: bool,
    /// Making a session ready the first time, seconds a node: kernels are chosen, engines built. 0 where it is not counted.
    pub compile_s_per_node: f64,
}

/// By how many percent of the predicted peak of memory the real one may be less or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryError {
    /// Less.
    pub below: u64,
    /// More.
    pub above: u64,
}

/// Memory that kernels take while they run, beside inputs and outputs: which formulas hold (`cost::scratch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scratch {
    /// Those of the CPU provider's kernels.
    Mlas,
    /// A convolution takes at most this workspace, fused attention the statistics of its softmax.
    Workspace(Bytes),
}

impl Target {
    /// What is missing to start it, as a sentence; nothing where vidc can.
    pub fn missing(&self) -> Option<&'static str> {
        if let Attach::Missing(what) = self.attach { Some(what) } else { None }
    }

    /// Is it part of every ONNX Runtime?
    pub fn is_builtin(&self) -> bool {
        self.attach == Attach::Builtin
    }

    /// What is wrong with options that a file gives, if something: only those that the row itself sets are taken (others load libraries
    /// or write where they like), and a folder is one of the plan's own.
    pub fn wrong_option(&self, options: &BTreeMap<String, String>) -> Option<String> {
        let nothing = Asked { device: 0, types: &BTreeSet::new(), tf32: false, scratch: Bytes(0), inputs: &[] };
        let known: Vec<&str> = (self.options)(&nothing).into_iter().map(|(name, _)| name).collect();
        options.iter().find_map(|(name, value)| match known.contains(&name.as_str()) {
            false => Some(format!("`{name}` is no option of {}", self.name)),
            true if self.folders.contains(&name.as_str()) && !is_bare(value) => Some(format!("the folder `{value}` leaves the plan")),
            true => None,
        })
    }

    /// Has it this form for tensors of this type?
    pub fn has(&self, form: Form, ty: DType) -> bool {
        self.forms.has(form, ty)
    }

    /// Which of itself and the rows behind it has a kernel for an operator whose first input has this type.
    pub fn taker(&'static self, domain: &str, op_type: &str, ty: DType) -> Option<&'static Self> {
        std::iter::once(self).chain(self.behind.iter().copied()).find(|row| row.kernels.has(domain, op_type, ty))
    }

    /// Itself and the rows behind it, each with the options of one session.
    pub fn providers(&self, asked: &Asked<'_>) -> Vec<Provider> {
        let of = |row: &Self| Provider {
            provider: row.key.into(),
            options: (row.options)(asked).into_iter().map(|(name, value)| (name.into(), value)).collect(),
        };
        std::iter::once(self).chain(self.behind.iter().copied()).map(of).collect()
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.key)
    }
}

/// The rows that fit a device, the one that it gets first.
pub fn fitting(device: &Device<'_>) -> Vec<&'static Target> {
    ROWS.into_iter().filter(|row| row.fits.misfit(device).is_none()).collect()
}

/// The row of a key.
///
/// # Errors
/// `target/unknown-provider` with the nearest key.
pub fn row(key: &str) -> Result<&'static Target> {
    let known = ROWS.iter().map(|row| row.key);
    ROWS.into_iter().find(|row| row.key == key).ok_or_else(|| {
        let d = Diagnostic::new("target/unknown-provider", format!("there is no execution provider `{key}`"));
        Box::new(d.help(suggest(key, known)))
    })
}

/// The row of a key, for a device.
///
/// # Errors
/// As [`row`]; `target/misfit` if it is not for that device, with the rows that are.
pub fn row_for(key: &str, device: &Device<'_>) -> Result<&'static Target> {
    let row = row(key)?;
    match row.fits.misfit(device) {
        None => Ok(row),
        Some(why) => {
            let fitting: Vec<&str> = fitting(device).iter().map(|r| r.key).collect();
            let d = Diagnostic::new("target/misfit", format!("{} is not for `{}`: {why}", row.name, device.key));
            Err(Box::new(d.help(format!("providers for it: {}", fitting.join(", ")))))
        }
    }
}

#[cfg(test)]
mod tests;
