//! Weight expressions against ndarray, and what their constructors and bindings refuse.

use std::collections::BTreeMap;
use std::fs;

use ndarray::{Array2, Array3, ArrayD, Axis, IxDyn, concatenate};
use sha2::{Digest, Sha256};

use super::*;

/// Values with no pattern in them, in [-1, 1).
fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    fill(&RandomSpec { seed, center: 0.0, bound: 1.0 }, 0, &mut out);
    out
}

fn expr(seed: u64, shape: &[u64]) -> WeightExpr {
    WeightExpr::literal_f32(shape, &values(seed, shape.iter().product::<u64>() as usize)).unwrap()
}

fn array(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values(seed, shape.iter().product())).unwrap()
}

fn check(expr: &WeightExpr, expect: &ArrayD<f32>) {
    let got = evaluate(expr).unwrap();
    assert_eq!(got.shape, expect.shape().iter().map(|d| *d as u64).collect::<Vec<_>>(), "{expr}");
    assert_eq!((got.shape.as_slice(), got.dtype), (expr.shape(), expr.dtype()));
    assert_eq!(got.to_f32(), expect.iter().copied().collect::<Vec<_>>(), "{expr}");
}

#[test]
fn movements_agree_with_ndarray() {
    let (e, a) = (expr(1, &[2, 3, 4]), array(1, &[2, 3, 4]));
    for perm in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        check(&e.transpose(&perm).unwrap(), &a.clone().permuted_axes(IxDyn(&perm)));
    }
    check(&e.reshape(&[6, 4]).unwrap(), &a.clone().into_shape_with_order(IxDyn(&[6, 4])).unwrap());
    for (axis, start, end) in [(0, 1, 2), (1, 1, 3), (2, 0, 1), (1, 2, 2)] {
        let expect = a.slice_axis(Axis(axis), ndarray::Slice::from(start as isize..end as isize)).to_owned();
        check(&e.slice(axis, start, end).unwrap(), &expect.into_dyn());
    }
    for axis in 0..3 {
        let expect = concatenate(Axis(axis), &[a.view(), array(2, &[2, 3, 4]).view()]).unwrap();
        check(&WeightExpr::concat(&[e.clone(), expr(2, &[2, 3, 4])], axis).unwrap(), &expect);
    }
    let kernel = Array3::from_shape_vec((2, 3, 4), values(1, 24)).unwrap().permuted_axes([2, 0, 1]);
    let flat: Vec<f32> = kernel.iter().copied().collect();
    check(&e.transpose(&[2, 0, 1]).unwrap().reshape(&[24]).unwrap(), &ArrayD::from_shape_vec(IxDyn(&[24]), flat).unwrap());
}

#[test]
fn arithmetic_agrees_with_ndarray() {
    let (a, b) = (array(1, &[70, 90]), array(2, &[70, 90]));
    check(&expr(1, &[70, 90]).add(&expr(2, &[70, 90])).unwrap(), &(&a + &b));
    check(&expr(1, &[70, 90]).scale(0.5).unwrap(), &(&a * 0.5));
    let wide = |seed, rows, columns| Array2::from_shape_vec((rows, columns), values(seed, rows * columns)).unwrap().mapv(f64::from);
    let expect = wide(1, 70, 90).dot(&wide(3, 90, 33));
    let got = evaluate(&expr(1, &[70, 90]).matmul(&expr(3, &[90, 33])).unwrap()).unwrap();
    for (got, expect) in got.to_f32().iter().zip(&expect) {
        // One rounding to f32, and f64 sums in another order.
        assert!((f64::from(*got) - expect).abs() <= expect.abs() * 6e-8 + 1e-14, "{got} {expect}");
    }
    check(&expr(1, &[2, 0]).matmul(&expr(1, &[0, 3])).unwrap(), &ArrayD::zeros(IxDyn(&[2, 3])));
}

#[test]
fn elementwise_functions_broadcast_as_in_numpy() {
    let (e, a) = (expr(1, &[2, 1, 4]), array(1, &[2, 1, 4]));
    let (f, b) = (expr(2, &[3, 1]), array(2, &[3, 1]));
    let wide = |x: &ArrayD<f32>| x.mapv(f64::from).broadcast(IxDyn(&[2, 3, 4])).unwrap().to_owned();
    let expect = |f: fn(f64, f64) -> f64| ndarray::Zip::from(&wide(&a)).and(&wide(&b)).map_collect(|x, y| f(*x, *y) as f32);
    check(&e.add(&f).unwrap(), &expect(|x, y| x + y));
    check(&e.binary(Arithmetic::Sub, &f).unwrap(), &expect(|x, y| x - y));
    check(&e.mul(&f).unwrap(), &expect(|x, y| x * y));
    check(&f.binary(Arithmetic::Div, &e).unwrap(), &expect(|x, y| y / x));
    check(&e.expand(&[2, 3, 4]).unwrap(), &wide(&a).mapv(|x| x as f32));
    check(&e.map(Function::Sin).unwrap(), &a.mapv(|x| f64::from(x).sin() as f32));
    check(&e.slice(1, 0, 0).unwrap().add(&f.slice(0, 0, 1).unwrap()).unwrap(), &ArrayD::zeros(IxDyn(&[2, 0, 4])));
    let scalar = WeightExpr::literal_f32(&[], &[3.0]).unwrap();
    check(&scalar.mul(&scalar).unwrap(), &ArrayD::from_elem(IxDyn(&[]), 9.0));
}

/// (1 + 2^-24) in f32 is 1, so that a rounding in between would show.
#[test]
fn a_chain_is_rounded_once() {
    let literal = |x: f32| WeightExpr::literal_f32(&[1], &[x]).unwrap();
    let sum = literal(1.0).add(&literal(2_f32.powi(-24))).unwrap();
    let back = sum.binary(Arithmetic::Sub, &literal(1.0)).unwrap();
    assert_eq!(evaluate(&back).unwrap().to_f32(), [2_f32.powi(-24)]);
    assert_eq!(evaluate(&sum).unwrap().to_f32(), [1.0]);
    let joined = WeightExpr::concat(&[sum.clone(), literal(5.0)], 0).unwrap().reshape(&[2, 1]).unwrap();
    assert_eq!(evaluate_unrounded(&joined).unwrap(), [1.0 + 2_f64.powi(-24), 5.0]);
    let cast = sum.cast(DType::BF16).unwrap().binary(Arithmetic::Sub, &literal(1.0).cast(DType::BF16).unwrap()).unwrap();
    assert_eq!(evaluate(&cast).unwrap().to_f32(), [0.0]);
    assert_eq!(evaluate_unrounded(&cast).unwrap(), [2_f64.powi(-24)]);
}

#[test]
fn whole_numbers_are_exact_and_wrap() {
    let ints = |v: &[i64]| WeightExpr::literal(DType::I64, &[v.len() as u64], &v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    let value = |e: WeightExpr| evaluate(&e).unwrap().bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<_>>();
    let (a, b) = (ints(&[i64::MAX - 1, -7, (1 << 53) + 1]).unwrap(), ints(&[3]).unwrap());
    assert_eq!(value(a.add(&b).unwrap()), [i64::MIN + 1, -4, (1 << 53) + 4]);
    assert_eq!(value(a.binary(Arithmetic::Div, &b).unwrap())[1..], [-2, 3_002_399_751_580_331]);
    assert_eq!(value(b.map(Function::Neg).unwrap()), [-3]);
    assert_eq!(evaluate(&b.binary(Arithmetic::Div, &ints(&[0]).unwrap()).unwrap()).unwrap_err().code, "weights/expression");
}

#[test]
fn work_is_bounded_and_splats_are_seen() {
    let one = WeightExpr::literal_f32(&[1], &[1.0]).unwrap();
    let doubled = (0..200).try_fold(one.clone(), |e, _| e.add(&e));
    assert_eq!(doubled.unwrap_err().code, "weights/expression");
    let big = param("w", DType::F32, &[1 << 14, 1 << 14]);
    assert_eq!(big.matmul(&big).unwrap_err().code, "weights/expression");
    assert_eq!(one.expand(&[4, 4]).unwrap().cast(DType::F16).unwrap().splat(), Some(1.0));
    assert_eq!((expr(1, &[3]).splat(), big.splat()), (None, None));
}

#[test]
fn casts_round_as_the_half_crate_does() {
    let got = evaluate(&expr(1, &[5000]).cast(DType::F16).unwrap()).unwrap();
    let expect: Vec<u8> = values(1, 5000).iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    assert!(got.bytes == expect);
    let got = evaluate(&expr(1, &[5000]).cast(DType::BF16).unwrap()).unwrap();
    let expect: Vec<u8> = values(1, 5000).iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    assert!(got.bytes == expect);
    let bits = WeightExpr::literal(DType::I64, &[2], &[5_i64.to_le_bytes(), (-1_i64).to_le_bytes()].concat()).unwrap();
    assert_eq!(evaluate(&bits.cast(DType::Bool).unwrap()).unwrap().bytes, [1, 1]);
    assert_eq!(evaluate(&bits.cast(DType::F32).unwrap()).unwrap().to_f32(), [5.0, -1.0]);
}

#[test]
fn random_values_are_those_of_the_generator_in_any_type() {
    let spec = random_spec(7, "unet", "conv_in.weight", &[64, 100]);
    let e = WeightExpr::random("unet/conv_in.weight", spec, DType::F32, &[64, 100]).unwrap();
    let mut expect = vec![0.0; 6400];
    fill(&spec, 0, &mut expect);
    assert_eq!(evaluate(&e).unwrap().to_f32(), expect);
    let half = WeightExpr::random("unet/conv_in.weight", spec, DType::F16, &[64, 100]).unwrap();
    assert_eq!(evaluate(&half).unwrap(), evaluate(&e.cast(DType::F16).unwrap()).unwrap());
}

/// A model of two tensors: `a` f32[4, 3] = 0, 1, … 11 and `b` f16[2] = 1, 2.
fn model() -> (tempfile::TempDir, ParamSource) {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"a":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},"b":{"dtype":"F16","shape":[2],"data_offsets":[48,52]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..12_u8).flat_map(|i| f32::from(i).to_le_bytes()));
    bytes.extend([0, 0x3c, 0, 0x40]);
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let stored = open_folder(dir.path(), None).unwrap();
    (dir, ParamSource::Files(BTreeMap::from([("unet".into(), stored)])))
}

fn param(name: &str, dtype: DType, shape: &[u64]) -> WeightExpr {
    WeightExpr::param("unet", name, dtype, shape).unwrap()
}

#[test]
fn what_is_only_looked_at_otherwise_stays_bare() {
    let (_dir, source) = model();
    let a = param("a", DType::F32, &[4, 3]);
    let bound = a.bind(&source).unwrap();
    assert_eq!(bound.bare().unwrap().shape, [4, 3]);
    let row = a.slice(0, 1, 3).unwrap().reshape(&[6]).unwrap().bind(&source).unwrap();
    assert_eq!(evaluate(&row).unwrap().to_f32(), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(row.bare().unwrap().bytes().unwrap().len(), 24);
    let twice = a.transpose(&[1, 0]).unwrap().transpose(&[1, 0]).unwrap();
    assert_eq!(twice, a);
    assert!(a.transpose(&[1, 0]).unwrap().bind(&source).unwrap().bare().is_none());
    let column = a.slice(1, 2, 3).unwrap().bind(&source).unwrap();
    assert_eq!(evaluate(&column).unwrap().to_f32(), [2.0, 5.0, 8.0, 11.0]);
}

#[test]
fn another_float_type_is_cast() {
    let (_dir, source) = model();
    let b = param("b", DType::F32, &[2]).bind(&source).unwrap();
    assert_eq!(b.to_string().split('(').next(), Some("cast[f32]"));
    assert_eq!(evaluate(&b).unwrap().to_f32(), [1.0, 2.0]);
    assert!(param("b", DType::F16, &[2]).bind(&source).unwrap().bare().is_some());
}

#[test]
fn what_the_files_lack_is_named() {
    let (_dir, source) = model();
    let error = |e: &WeightExpr| e.bind(&source).unwrap_err();
    let missing = error(&param("c", DType::F32, &[2]));
    assert_eq!((missing.code, missing.help.as_deref()), ("weights/missing-tensor", Some("the nearest there are: a, b")));
    let shape = error(&param("a", DType::F32, &[3, 4]));
    assert_eq!(shape.message, "tensor `a` of unet is stored with shape [4, 3] but the model needs [3, 4]");
    assert_eq!(error(&param("a", DType::I64, &[4, 3])).code, "weights/dtype-mismatch");
    assert_eq!(error(&WeightExpr::param("vae", "a", DType::F32, &[1]).unwrap()).code, "weights/missing-model");
}

#[test]
fn a_seed_binds_everything() {
    let e = param("conv_in.weight", DType::F16, &[4, 2]).transpose(&[1, 0]).unwrap();
    assert_eq!(evaluate(&e).unwrap_err().code, "weights/unbound");
    let bound = e.bind(&ParamSource::Random { seed: 3 }).unwrap();
    assert_eq!(bound.to_string(), "transpose[1,0](random unet/conv_in.weight)");
    let WeightOp::Transpose { of, .. } = bound.op() else { panic!("{bound}") };
    let WeightOp::Random { spec, .. } = of.op() else { panic!("{bound}") };
    assert_eq!(*spec, random_spec(3, "unet", "conv_in.weight", &[4, 2]));
    assert_eq!(evaluate(&bound).unwrap().bytes.len(), 16);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (a, b) = (expr(1, &[2, 3]), expr(1, &[3, 2]));
    let ints = WeightExpr::literal(DType::I64, &[1], &[0; 8]).unwrap();
    let refused = [
        a.transpose(&[0]),
        a.transpose(&[0, 0]),
        a.transpose(&[0, 2]),
        a.reshape(&[7]),
        a.reshape(&[u64::MAX, 2]),
        WeightExpr::concat(&[], 0),
        WeightExpr::concat(std::slice::from_ref(&a), 2),
        WeightExpr::concat(&[a.clone(), b.clone()], 0),
        WeightExpr::concat(&[a.clone(), a.cast(DType::F16).unwrap()], 0),
        a.slice(2, 0, 1),
        a.slice(0, 1, 3),
        a.slice(0, 2, 1),
        a.add(&b),
        a.matmul(&a),
        a.matmul(&expr(1, &[3])),
        a.scale(f64::NAN),
        ints.scale(2.0),
        ints.map(Function::Exp),
        ints.add(&a),
        a.expand(&[3, 2]),
        a.expand(&[1 << 20, 1 << 20, 2, 3]),
        WeightExpr::literal(DType::F32, &[2], &[0; 4]),
        WeightExpr::param("unet", "x", DType::F32, &[u64::MAX, u64::MAX]),
        WeightExpr::random("x", RandomSpec { seed: 0, center: 0.0, bound: 1.0 }, DType::I32, &[1]),
    ];
    for (i, result) in refused.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().code, "weights/expression", "case {i}");
    }
    let deep = (0..300).try_fold(a.clone(), |e, _| e.scale(1.0));
    assert_eq!(deep.unwrap_err().code, "weights/expression");
}

#[test]
fn the_text_is_short_and_names_no_folder() {
    let (a, b) = (param("a", DType::F32, &[4, 3]), param("b", DType::F32, &[3, 4]));
    let e = WeightExpr::concat(&[a.clone(), b.transpose(&[1, 0]).unwrap()], 1).unwrap();
    let e = e.slice(1, 2, 5).unwrap().scale(0.5).unwrap().cast(DType::BF16).unwrap();
    let expect = "cast[bf16](scale[0.5](slice[1, 2..5](concat[1](param unet/a, transpose[1,0](param unet/b)))))";
    assert_eq!(e.to_string(), expect);
    assert_eq!(
        a.matmul(&b).unwrap().add(&expr(1, &[4, 4])).unwrap().to_string(),
        "add(matmul(param unet/a, param unet/b), literal f32[4,4])"
    );
    let pow = a.map(Function::GeluTanh).unwrap().binary(Arithmetic::Pow, &a.expand(&[2, 4, 3]).unwrap()).unwrap();
    assert_eq!(pow.to_string(), "pow(gelutanh(param unet/a), expand[2,4,3](param unet/a))");
    let (_dir, source) = model();
    assert_eq!(a.bind(&source).unwrap().to_string(), "stored model.safetensors@120+48");
    assert_eq!(e.params().iter().map(|p| p.1).collect::<Vec<_>>(), ["a", "b"]);
}

fn print(e: &WeightExpr) -> [u8; 32] {
    let mut hash = Sha256::new();
    e.fingerprint(&mut hash);
    hash.finalize().into()
}

#[test]
fn fingerprints_tell_expressions_apart_and_ignore_the_folder() {
    let a = param("a", DType::F32, &[4, 3]);
    let square = param("s", DType::F32, &[3, 3]);
    let different = [
        a.clone(),
        param("b", DType::F32, &[4, 3]),
        param("a", DType::F16, &[4, 3]),
        param("a", DType::F32, &[3, 4]),
        WeightExpr::param("une", "ta", DType::F32, &[4, 3]).unwrap(),
        a.transpose(&[1, 0]).unwrap(),
        a.reshape(&[12]).unwrap(),
        a.scale(2.0).unwrap(),
        a.scale(3.0).unwrap(),
        a.slice(0, 0, 2).unwrap(),
        a.slice(0, 2, 4).unwrap(),
        a.cast(DType::F16).unwrap(),
        a.add(&a).unwrap(),
        a.mul(&a).unwrap(),
        a.map(Function::Sin).unwrap(),
        a.map(Function::Cos).unwrap(),
        a.expand(&[2, 4, 3]).unwrap(),
        square.clone(),
        square.transpose(&[1, 0]).unwrap(),
        square.matmul(&square).unwrap(),
        square.add(&square).unwrap(),
        a.bind(&ParamSource::Random { seed: 1 }).unwrap(),
        a.bind(&ParamSource::Random { seed: 2 }).unwrap(),
    ];
    let prints: std::collections::BTreeSet<_> = different.iter().map(print).collect();
    assert_eq!(prints.len(), different.len());
    let ((_one, first), (_two, second)) = (model(), model());
    assert_eq!(print(&a.bind(&first).unwrap()), print(&a.bind(&second).unwrap()));
}
