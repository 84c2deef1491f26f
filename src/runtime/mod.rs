//! Provisions ONNX Runtime, executes a plan, measures.
//!
//! [`provision`] finds or fetches the shared library, [`session`] loads it and runs models, [`ffi`] holds every unsafe call.

mod external;
pub mod ffi;
pub mod profile;
pub mod provision;
pub mod session;
pub mod tensor;
