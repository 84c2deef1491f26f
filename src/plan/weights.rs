//! How many bytes of weights a session holds while it is loaded, as the cost model counts them.

use std::collections::BTreeSet;

use crate::ir::LEAST_WEIGHT;
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::weights::DType;

/// Bytes of the initializers of a model that vidc wrote, those in other files and its own: a range of a file that several name counts
/// once, and those below [`LEAST_WEIGHT`] bytes are not counted.
pub(super) fn weight_bytes(model: &ModelProto) -> u64 {
    let mut ranges = BTreeSet::new();
    let initializers = model.graph.iter().flat_map(|g| &g.initializer);
    let counted = initializers.filter(|i| i.external_data.is_empty() || ranges.insert(range(i)));
    counted.filter_map(bytes).filter(|bytes| *bytes >= LEAST_WEIGHT).sum()
}

/// File and offset.
fn range(initializer: &TensorProto) -> [Option<&str>; 2] {
    let field = |key: &str| initializer.external_data.iter().find(|p| p.key == key).map(|p| p.value.as_str());
    [field("location"), field("offset")]
}

fn bytes(initializer: &TensorProto) -> Option<u64> {
    let size = DType::from_onnx(initializer.data_type)?.size();
    initializer.dims.iter().try_fold(size, |n, d| n.checked_mul(u64::try_from(*d).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::build;
    use crate::onnx::proto::GraphProto;

    #[test]
    fn a_range_counts_once_and_small_ones_not_at_all() {
        let outside = |offset: &str, extent: i64| TensorProto {
            dims: vec![extent],
            data_type: 1,
            external_data: vec![build::entry("location", "w.bin"), build::entry("offset", offset)],
            data_location: Some(1),
            ..TensorProto::default()
        };
        let own = build::tensor("own", 1, &[100], vec![0; 400]);
        let initializer = vec![outside("0", 64), outside("0", 64), outside("256", 64), outside("512", 63), own];
        let model = build::model(GraphProto { initializer, ..GraphProto::default() }, 21);
        assert_eq!(weight_bytes(&model), 2 * 256 + 400);
    }
}
