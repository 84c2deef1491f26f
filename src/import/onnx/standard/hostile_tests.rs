//! No attribute and no known value makes a rule panic, whatever a file says.

use proptest::prelude::*;

use super::notation::Owned;
use super::{Elements, PartialType, ShapeValue, ValueInfo, table};
use crate::ir::Dim;
use crate::onnx::build::attr;
use crate::onnx::proto::{AttributeProto, TensorProto};

/// Names of attributes that rules read.
const NAMES: &[&str] = &[
    "axis",
    "axes",
    "perm",
    "to",
    "dtype",
    "shape",
    "split",
    "pads",
    "strides",
    "dilations",
    "kernel_shape",
    "auto_pad",
    "ceil_mode",
    "group",
    "output_shape",
    "output_padding",
    "keepdims",
    "noop_with_empty_axes",
    "blocksize",
    "batch_dims",
    "num_outputs",
    "start",
    "end",
    "starts",
    "ends",
    "value",
    "value_ints",
    "value_floats",
    "equation",
    "scales",
    "keep_aspect_ratio_policy",
    "k",
    "mode",
    "direction",
    "hidden_size",
    "layout",
    "num_heads",
    "q_num_heads",
    "kv_num_heads",
    "qkv_hidden_sizes",
    "N",
    "onesided",
    "inverse",
    "reduction",
    "output_dtype",
    "pooled_shape",
    "output_height",
    "sample_size",
    "min",
    "max",
    "fmod",
    "exclusive",
    "allowzero",
    "ngram_indexes",
    "inputdimensions",
    "n_targets",
    "targets",
    "select_last_index",
    "stash_type",
    "transA",
    "transB",
    "channels_last",
];
const TEXTS: &[&str] =
    &["", "SAME_UPPER", "VALID", "ij,jk->ik", "...i,...i->...", "ii->", "a->z", "LEFT", "RIGHT", "none", "not_larger", "\u{0}"];
const INTS: &[i64] = &[0, 1, 2, 3, 5, 7, 9, -1, -2, -3, 64, 4096, 1 << 31, -(1 << 31), 1 << 62, i64::MAX, i64::MIN, i64::MIN + 1];

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![3 => -4_i64..8, 1 => proptest::sample::select(INTS)]
}

fn dim() -> impl Strategy<Value = Dim> {
    let symbol = proptest::sample::select(&["a", "b", "c"][..]).prop_map(Dim::symbol);
    let sum = (symbol.clone(), int(), int()).prop_map(|(s, a, b)| s * a + b);
    let floor = (symbol.clone(), 1_i64..9, int()).prop_map(|(s, d, b)| (s + b).div_floor(d));
    prop_oneof![4 => int().prop_map(Dim::Const), 2 => symbol, 1 => sum, 1 => floor]
}

fn value() -> impl Strategy<Value = ShapeValue> {
    let elements = prop_oneof![
        3 => proptest::collection::vec(dim(), 0..9).prop_map(Elements::Dims),
        1 => proptest::collection::vec(prop_oneof![any::<f64>(), -3.0..4.0], 0..9).prop_map(Elements::Numbers),
    ];
    // Most have the shape of their elements, some do not.
    (elements, 0..6_u8, proptest::collection::vec(0_usize..5, 0..3)).prop_map(|(elements, kind, other)| {
        let n = elements.len();
        let shape = match kind {
            0 => other,
            1 if n == 1 => vec![],
            2 if n.is_multiple_of(2) => vec![n / 2, 2],
            _ => vec![n],
        };
        ShapeValue { shape, elements }
    })
}

fn info() -> impl Strategy<Value = Option<ValueInfo>> {
    let dtype = prop_oneof![4 => proptest::sample::select(&[1, 6, 7, 9, 10, 11, 16][..]), 1 => -2_i32..40];
    let shape = proptest::collection::vec(proptest::option::weighted(0.9, dim()), 0..6);
    let long = Just(vec![Some(Dim::Const(2)); 40]);
    let shape = prop_oneof![20 => shape, 1 => long];
    let ty = (proptest::option::weighted(0.9, dtype), proptest::option::weighted(0.9, shape));
    let ty = ty.prop_map(|(dtype, shape)| PartialType { dtype, shape });
    let info = (proptest::option::weighted(0.9, ty), proptest::option::of(value()), any::<bool>()).prop_map(|(ty, value, honest)| {
        let mut info = ValueInfo { ty, value };
        if let (true, Some(ty), Some(value)) = (honest, &mut info.ty, &info.value) {
            ty.shape = Some(value.shape.iter().map(|n| Some(Dim::from(*n))).collect());
        }
        info
    });
    proptest::option::weighted(0.9, info)
}

fn attribute() -> impl Strategy<Value = AttributeProto> {
    let name = || proptest::sample::select(NAMES);
    let tensor = (proptest::collection::vec(int(), 0..3), -1_i32..30, proptest::collection::vec(any::<i64>(), 0..4))
        .prop_map(|(dims, data_type, int64_data)| TensorProto { dims, data_type, int64_data, ..TensorProto::default() });
    prop_oneof![
        4 => (name(), int()).prop_map(|(n, i)| attr::int(n, i)),
        4 => (name(), proptest::collection::vec(int(), 0..6)).prop_map(|(n, i)| attr::ints(n, &i)),
        1 => (name(), any::<f32>()).prop_map(|(n, f)| attr::float(n, f)),
        1 => (name(), proptest::collection::vec(any::<f32>(), 0..6)).prop_map(|(n, f)| attr::floats(n, &f)),
        2 => (name(), proptest::sample::select(TEXTS)).prop_map(|(n, s)| attr::string(n, s)),
        1 => (name(), tensor).prop_map(|(n, t)| attr::tensor(n, t)),
    ]
}

fn call() -> impl Strategy<Value = Owned> {
    let operators: Vec<_> = table::all().collect();
    let parts = (
        proptest::sample::select(operators),
        1_i64..30,
        proptest::collection::vec(attribute(), 0..6),
        proptest::collection::vec(info(), 0..6),
        0_usize..5,
    );
    parts.prop_map(|((domain, op_type), version, attributes, inputs, outputs)| Owned {
        domain: domain.into(),
        op_type: op_type.into(),
        version,
        attributes,
        inputs,
        outputs,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_call_panics(call in call()) {
        if let Ok(infos) = call.infer() {
            prop_assert_eq!(infos.len(), call.outputs);
            for info in infos {
                let value = info.value.map_or(0, |v| v.elements.len());
                prop_assert!(value <= super::MAX_ELEMENTS);
                prop_assert!(info.ty.and_then(|t| t.shape).map_or(0, |s| s.len()) <= super::MAX_RANK);
            }
        }
    }
}
