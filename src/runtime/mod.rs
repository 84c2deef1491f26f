//! Provisions ONNX Runtime, executes a plan, measures.
//!
//! [`provision`] finds or fetches the shared library, [`session`] loads it and runs models. A plan is run in two parts: [`Prepared`]
//! is what it needs to be run again and again, [`Run`] is one run. [`progress`] keeps the state of loops, [`report`] says what a run
//! did, [`ffi`] holds every unsafe call.

mod buffers;
mod element;
mod external;
pub mod ffi;
pub mod prepared;
pub mod profile;
pub mod progress;
pub mod provision;
pub mod report;
pub mod request;
pub mod run;
pub mod session;
mod space;
pub mod tensor;

pub use prepared::{Keep, PrepareOptions, Prepared};
pub use run::Run;
