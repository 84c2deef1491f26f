//! Codes of the area `onnx`.

use super::Code;

pub(super) const CODES: &[Code] = &[];
