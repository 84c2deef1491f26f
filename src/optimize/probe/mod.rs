//! Measures this machine through ONNX Runtime and fits a hardware profile to what was measured.
//!
//! `blocks` builds the operators of video models at many sizes, [`cases`] lists the sizes, the passes lower them as they lower any
//! model, [`super::kernels`] times what came of it, kernel by kernel, [`measure`] makes points of that, [`calibrate`] fits the parameters
//! of the latency formulas to the points, [`profile`] is what is written. Providers that run a model as
//! one kernel are fitted to whole cases ([`whole`]). [`check`] holds predictions against a model's own kernels.

mod blocks;
pub mod calibrate;
pub mod cases;
pub mod check;
pub mod measure;
pub mod profile;
pub mod whole;
