//! ONNX protobuf in and out.
//!
//! [`read`] takes a file that may be hostile: it is scanned on the wire first (size, depth, number of parts), then
//! decoded into the messages of [`proto`]; [`check_external_data`] walks every tensor, wherever it stands, and proves that
//! its values are where they should be, as many as they should be, inside the model's folder. Only then may ONNX Runtime see
//! the file. [`write()`] makes files, [`build`] their parts.

pub mod build;
pub mod dtype;
mod external;
mod initializers;
pub mod owner;
pub mod proto;
mod reader;
mod scan;
mod style;
pub mod tensor;
mod writer;

#[cfg(test)]
mod golden_tests;

pub use external::{ExternalTensor, check_external_data, for_each_tensor};
pub use initializers::{Initializer, initializers};
pub use reader::{MAX_FILE, decode, read};
pub use style::{OPSET, Style};
pub use writer::{encode, write};
