//! What a session's options follow from, and how a plan records them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::units::Bytes;
use crate::weights::DType;

/// What a plan decided about one session.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The index of the device on its machine.
    pub device: u32,
    /// Element types of its tensors.
    pub types: &'a BTreeSet<DType>,
    /// Are products of f32 tensors taken in tf32?
    pub tf32: bool,
    /// The most scratch that the memory plan allows any of its kernels.
    pub scratch: Bytes,
    /// Name and extents of each input.
    pub inputs: &'a [(String, Vec<i64>)],
}

/// A provider of a session, as a plan records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The key of its row.
    pub provider: String,
    /// Its options in ONNX Runtime's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// ONNX Runtime's spelling of a switch.
pub(super) fn switch(on: bool) -> String {
    u8::from(on).to_string()
}
