//! Provisions ONNX Runtime, executes a plan, measures.
//!
//! [`provision`] finds or fetches the shared library, [`session`] loads it and runs models, [`execute`] runs
//! plans, [`progress`] keeps the state of loops, [`report`] says what a run did, [`ffi`] holds every unsafe call.

pub mod execute;
mod external;
pub mod ffi;
pub mod profile;
pub mod progress;
pub mod provision;
pub mod report;
pub mod session;
pub mod tensor;
