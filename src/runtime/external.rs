//! Which initializers of a model lie outside of it: reads only that part of the protobuf, skipping everything else.

use std::ops::Range;

use super::tensor::byte_len;
use crate::diag::{Diagnostic, Result};
use crate::onnx::{self, Initializer};
use crate::weights::DType;

/// An initializer of the main graph whose bytes lie in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    /// The initializer's name.
    pub(super) name: String,
    /// The type of its elements.
    pub(super) dtype: DType,
    /// Its extents.
    pub(super) shape: Vec<i64>,
    /// The file's name as the model says it.
    pub(super) location: String,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// The external initializers of a model's main graph, in its order. Those of inner graphs are not among them: plans have none.
///
/// # Errors
/// `onnx/…` if the bytes are no model, `runtime/weights` if an entry makes no sense.
pub(super) fn entries(model: &[u8]) -> Result<Vec<External>> {
    onnx::initializers(model)?.into_iter().filter(|i| i.data_location == Some(EXTERNAL)).map(entry).collect()
}

fn entry(initializer: Initializer) -> Result<External> {
    let wrong = |what: &str| {
        Diagnostic::new("runtime/weights", format!("the entry of weight `{}` in the model makes no sense: {what}", initializer.name))
    };
    let field = |key: &str| initializer.external_data.iter().find(|p| p.key == key).map(|p| p.value.as_str());
    let number = |key: &str| field(key).map(str::parse::<usize>).transpose().map_err(|_| wrong(&format!("its {key} is no number")));
    let location = field("location").ok_or_else(|| wrong("it has no location"))?;
    if !is_plain(location) {
        return Err(wrong(&format!("its location `{location}` is not a relative name below the model")).into());
    }
    let dtype =
        DType::from_onnx(initializer.data_type).ok_or_else(|| wrong(&format!("type {} is not supported", initializer.data_type)))?;
    let extents = initializer.dims.iter().map(|d| usize::try_from(*d)).collect::<std::result::Result<Vec<_>, _>>();
    let bytes = extents.ok().and_then(|shape| byte_len(dtype, &shape)).ok_or_else(|| wrong("its shape cannot be"))?;
    if number("length")?.is_some_and(|length| length != bytes) {
        return Err(wrong(&format!("its length is not the {bytes} bytes of its shape")).into());
    }
    let start = number("offset")?.unwrap_or(0);
    let end = start.checked_add(bytes).ok_or_else(|| wrong("its end cannot be counted"))?;
    Ok(External { dtype, location: location.into(), range: start..end, name: initializer.name, shape: initializer.dims })
}

/// A relative path that stays below its folder and is written plainly.
fn is_plain(location: &str) -> bool {
    !location.is_empty() && location.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::TensorProto;

    fn model(location: &str, pairs: &[(&str, &str)], dims: &[i64]) -> Vec<u8> {
        let external_data =
            std::iter::once(&("location", location)).chain(pairs).map(|(key, value)| onnx::build::entry(key, value)).collect();
        let tensor = TensorProto {
            dims: dims.to_vec(),
            data_type: 1,
            name: "w".into(),
            external_data,
            data_location: Some(EXTERNAL),
            ..Default::default()
        };
        let graph = onnx::proto::GraphProto { initializer: vec![tensor], ..Default::default() };
        onnx::encode(&onnx::build::model(graph, 21)).unwrap()
    }

    #[test]
    fn offset_and_length_become_a_range() {
        let found = entries(&model("a/w.bin", &[("offset", "9"), ("length", "24")], &[2, 3])).unwrap();
        assert_eq!((found[0].range.clone(), found[0].location.as_str()), (9..33, "a/w.bin"));
        assert_eq!(entries(&model("w.bin", &[], &[])).unwrap()[0].range, 0..4);
    }

    #[test]
    fn entries_that_make_no_sense_are_refused() {
        let check = |model: Vec<u8>, code: &str| assert_eq!(entries(&model).unwrap_err().code, code);
        for location in ["", "/etc/passwd", "../w", "a/../w", "a//w", "c:w", "a\\w"] {
            check(model(location, &[], &[1]), "runtime/weights");
        }
        check(model("w", &[("length", "5")], &[1]), "runtime/weights");
        check(model("w", &[("offset", "-1")], &[1]), "runtime/weights");
        check(model("w", &[("offset", "18446744073709551615")], &[1]), "runtime/weights");
        check(model("w", &[], &[-1]), "runtime/weights");
        check(model("w", &[], &[i64::MAX, i64::MAX]), "runtime/weights");
        check(b"\xff\xff\xff".to_vec(), "onnx/not-a-model");
    }
}
