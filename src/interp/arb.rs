//! Random operator graphs for property tests, here and of the passes.
//!
//! A [`Recipe`] is a list of steps that proptest makes and shrinks; [`Recipe::graph`] turns it into a graph: each step takes a
//! tensor made before and appends one to four operators that fit its shape. A step that fits nothing becomes an activation.
//! The batch (axis 0) is free: a recipe makes the same operators for every batch, and none mixes batch entries.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;

use super::{Float, to_literal};
use crate::ir::op::{Attention, Binary, Conv, GroupNorm, Unary};
use crate::ir::{DType, Dim, Op, OpGraph, Outlet, TensorType};
use crate::metrics::relative_l2_above;

/// No tensor has more elements than this for each batch entry.
const LARGEST: i64 = 2048;
/// Steps stop at this many operators, so that no graph has more than 20.
const MOST: usize = 16;
/// Large enough that rounding noise on a constant tensor is not blown up into a signal.
const EPS: f32 = 0.1;

/// Values in [-1, 1) without pattern on small shapes, from whole-number arithmetic and one division: the inputs of tests.
pub(crate) fn wave<T: Float>(position: usize, shape: &[usize]) -> ArrayD<T> {
    let value = |i: usize| T::from_f64(((i * 7919 + (position + 1) * 104_729) % 1009) as f64 / 504.5 - 1.0);
    ArrayD::from_shape_vec(IxDyn(shape), (0..shape.iter().product()).map(value).collect()).expect("as many as the shape")
}

/// How far a result is from the expected one, relative to that; one that is smaller than 1e-3 all over counts as that large.
pub(crate) fn distance(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    relative_l2_above(a.view(), b.view(), 1e-3)
}

/// What a random graph is made from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Shape of the input after the batch: `[c, f, h, w]`, `[c, h, w]` or `[l, c]`.
    pub(crate) item: Vec<i64>,
    /// (operator, tensor, detail), each taken modulo what there is.
    pub(crate) steps: Vec<(u8, u8, u8)>,
}

/// Recipes of up to 16 steps.
pub(crate) fn arb_recipe() -> impl Strategy<Value = Recipe> {
    let shapes = vec![vec![4, 3, 4, 6], vec![4, 6, 4], vec![6, 5, 5], vec![5, 8], vec![3, 6]];
    let steps = proptest::collection::vec(any::<(u8, u8, u8)>(), 1..=MOST);
    (proptest::sample::select(shapes), steps).prop_map(|(item, steps)| Recipe { item, steps })
}

/// Graphs with one input `x` of batch 1 to 3 and literal weights; see [`inputs`].
pub(crate) fn arb_graph() -> impl Strategy<Value = OpGraph> {
    (arb_recipe(), 1..=3_i64).prop_map(|(recipe, batch)| recipe.graph(batch))
}

/// Values for every input of a graph.
pub(crate) fn inputs<T: Float>(graph: &OpGraph) -> Vec<(&str, ArrayD<T>)> {
    let value = |(i, id): (usize, &crate::ir::NodeId)| {
        let node = graph.node(*id);
        let shape: Vec<usize> = node.outs[0].dims().expect("the graph is bound").iter().map(|d| *d as usize).collect();
        (node.name.as_str(), wave(i, &shape))
    };
    graph.inputs().iter().enumerate().map(value).collect()
}

impl Recipe {
    /// The graph for a batch. Every tensor that no operator reads is an output.
    pub(crate) fn graph(&self, batch: i64) -> OpGraph {
        let mut graph = OpGraph::new("random");
        let shape: Vec<i64> = [batch].into_iter().chain(self.item.iter().copied()).collect();
        let x = graph.input("x", TensorType::new(DType::F32, shape));
        let mut b = Builder { graph, pool: vec![x], made: 0, group: "g".into() };
        for (kind, which, detail) in &self.steps {
            if b.made < MOST {
                let x = b.pool[b.pool.len() - 1 - (*which as usize % 4).min(b.pool.len() - 1)];
                let y = b.step(*kind, x, i64::from(*detail));
                b.pool.push(y);
            }
        }
        let last: Vec<Outlet> = b.pool.iter().skip(1).copied().filter(|o| b.graph.users(*o).is_empty()).collect();
        for (i, o) in last.into_iter().enumerate() {
            b.graph.output(format!("y{i}"), o);
        }
        b.graph
    }
}

struct Builder {
    graph: OpGraph,
    pool: Vec<Outlet>,
    made: usize,
    group: Arc<str>,
}

impl Builder {
    fn dims(&self, x: Outlet) -> Vec<i64> {
        self.graph.ty(x).dims().expect("recipes make bound shapes")
    }

    fn add(&mut self, op: Op, inputs: &[Outlet]) -> Outlet {
        self.made += 1;
        let name = format!("n{}", self.made);
        self.graph.add(op, inputs, name, &self.group.clone()).expect("the step fits the shape")
    }

    /// A literal of values near 1 / sqrt(fan), so that signals keep their size.
    fn literal(&mut self, shape: &[i64], fan: i64) -> Outlet {
        let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
        let factor = 1.5 / (fan as f64).sqrt();
        let values: ArrayD<f64> = wave(self.made + 7, &shape).mapv_into(|v: f64| v * factor);
        let expr = to_literal(&values, DType::F32).expect("f32 holds it");
        self.graph.weight(expr)
    }

    fn pair(&mut self, c: i64) -> [Outlet; 2] {
        [self.literal(&[c], 1), self.literal(&[c], 1)]
    }

    fn step(&mut self, kind: u8, x: Outlet, detail: i64) -> Outlet {
        let d = self.dims(x);
        let made = match kind % 24 {
            0 => Some(self.unary(x, detail)),
            1 => self.join(x, &d, detail),
            2 => Some(self.scaled(x, &d, detail)),
            3 | 4 => self.linear(x, &d, detail),
            5 | 6 => self.conv(x, &d, detail),
            7 | 8 => Some(self.norm(x, &d, detail)),
            9 | 10 => self.attention(x, &d, detail),
            11 => self.ge_glu(x, &d),
            12 | 13 => self.temporal(x, &d),
            14 => self.tokens(x, &d),
            15 => Some(self.swap(x, &d)),
            16 => self.concat(x, &d, detail),
            17 | 18 => self.slice(x, &d, detail),
            19 => Some(self.mean(x, &d, detail)),
            20 => self.enlarge(x, &d, detail),
            21 => self.position(x, &d),
            22 => Some(self.add(Op::Softmax { axis: d.len() - 1 }, &[x])),
            _ => None,
        };
        made.unwrap_or_else(|| self.activation(x, detail))
    }

    fn activation(&mut self, x: Outlet, detail: i64) -> Outlet {
        let op = match detail % 4 {
            0 => Op::Silu,
            1 => Op::Gelu { tanh: false },
            2 => Op::Gelu { tanh: true },
            _ => Op::QuickGelu { alpha: 1.702 },
        };
        self.add(op, &[x])
    }

    fn unary(&mut self, x: Outlet, detail: i64) -> Outlet {
        use Unary::{Cos, Erf, Exp, GeluErf, GeluTanh, Neg, Sigmoid, Sin, Sqrt, Tanh};
        let functions = [Sigmoid, Tanh, Erf, Sin, Cos, Neg, GeluErf, GeluTanh, Exp, Sqrt];
        let f = functions[detail as usize % functions.len()];
        // The exponential and the root see bounded, positive numbers.
        let x = if matches!(f, Exp | Sqrt) { self.add(Op::Unary(Sigmoid), &[x]) } else { x };
        self.add(Op::Unary(f), &[x])
    }

    /// Two tensors of one shape.
    fn join(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let other = self.pool.iter().copied().find(|o| *o != x && self.dims(*o) == d)?;
        match detail % 3 {
            0 => Some(self.add(Op::Binary(Binary::Add), &[x, other])),
            1 => Some(self.add(Op::Binary(Binary::Sub), &[other, x])),
            _ => {
                let gate = self.add(Op::Unary(Unary::Tanh), &[other]);
                Some(self.add(Op::Binary(Binary::Mul), &[x, gate]))
            }
        }
    }

    /// A tensor and a broadcast constant.
    fn scaled(&mut self, x: Outlet, d: &[i64], detail: i64) -> Outlet {
        let (scalar, last) = (detail % 5, d[d.len() - 1]);
        let c = match scalar {
            0 => self.constant(2.0), // Pow
            1 => self.constant(1.5), // Div
            2 => self.add(Op::Arange { len: Dim::Const(last) }, &[]),
            _ => self.literal(&[last], 1),
        };
        match scalar {
            0 => {
                let bounded = self.add(Op::Unary(Unary::Tanh), &[x]);
                self.add(Op::Binary(Binary::Pow), &[bounded, c])
            }
            1 => self.add(Op::Binary(Binary::Div), &[x, c]),
            2 => {
                let wave = self.add(Op::Unary(Unary::Cos), &[c]);
                self.add(Op::Binary(Binary::Add), &[x, wave])
            }
            3 => self.add(Op::Binary(Binary::Mul), &[c, x]),
            _ => self.add(Op::Binary(Binary::Add), &[c, x]),
        }
    }

    fn constant(&mut self, value: f64) -> Outlet {
        self.graph.weight(to_literal(&ArrayD::from_elem(IxDyn(&[1]), value), DType::F32).expect("f32 holds it"))
    }

    fn linear(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let (k, n) = (d[d.len() - 1], [4, 6, 8][detail as usize % 3]);
        if d.iter().skip(1).product::<i64>() / k * n > LARGEST {
            return None;
        }
        if detail % 2 == 0 {
            let w = self.literal(&[k, n], k);
            return Some(self.add(Op::MatMul, &[x, w]));
        }
        let (w, b) = (self.literal(&[n, k], k), self.literal(&[n], 4));
        Some(self.add(Op::Linear, &[x, w, b]))
    }

    fn conv(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let [_, c, h, w] = d[..] else { return None };
        let (kernel, stride) = if detail % 2 == 0 { (3, 1 + detail / 2 % 2) } else { (1, 1) };
        let groups = if detail % 5 == 0 && c % 2 == 0 { 2 } else { 1 };
        let out = if h * w * 6 <= LARGEST { 6 } else { groups };
        let (weight, bias) = (self.literal(&[out, c / groups, kernel, kernel], c * kernel * kernel), self.literal(&[out], 4));
        Some(self.add(Op::Conv(Conv { groups, ..Conv::square(kernel, stride, kernel / 2) }), &[x, weight, bias]))
    }

    fn norm(&mut self, x: Outlet, d: &[i64], detail: i64) -> Outlet {
        let (c, last) = (d[1], d[d.len() - 1]);
        let groups = [3, 2, 1].into_iter().find(|g| c % g == 0).unwrap_or(1);
        match detail % 5 {
            0 => {
                let [s, b] = self.pair(last);
                self.add(Op::LayerNorm { eps: EPS }, &[x, s, b])
            }
            1 => {
                let s = self.literal(&[last], 1);
                self.add(Op::RmsNorm { eps: EPS }, &[x, s])
            }
            2 => {
                let [s, b] = self.pair(c);
                self.add(Op::InstanceNorm { eps: EPS }, &[x, s, b])
            }
            _ => {
                let [s, b] = self.pair(c);
                self.add(Op::GroupNorm(GroupNorm { groups, eps: EPS, silu: detail % 2 == 0 }), &[x, s, b])
            }
        }
    }

    /// Self-attention with a projection for each of q, k, v.
    fn attention(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let [_, l, c] = d[..] else { return None };
        let heads = 1 + detail % 2;
        if c % heads != 0 || l > 64 {
            return None;
        }
        let weights = [0; 3].map(|_| self.literal(&[c, c], c));
        let qkv = weights.map(|w| self.add(Op::Linear, &[x, w]));
        let scale = ((c / heads) as f32).sqrt().recip();
        Some(self.add(Op::Attention(Attention { heads, scale }), &qkv))
    }

    fn ge_glu(&mut self, x: Outlet, d: &[i64]) -> Option<Outlet> {
        let even = d[d.len() - 1] % 2 == 0;
        even.then(|| self.add(Op::GeGlu, &[x]))
    }

    fn temporal(&mut self, x: Outlet, d: &[i64]) -> Option<Outlet> {
        let [_, c, ..] = d[..] else { return None };
        (d.len() == 5).then(|| {
            let (w, b) = (self.literal(&[c, c, 3, 1, 1], 3 * c), self.literal(&[c], 4));
            self.add(Op::TemporalConv, &[x, w, b])
        })
    }

    /// Pictures to tokens `[b, h · w, c]`, a clip to its first axes merged `[b, c · f, h, w]`.
    fn tokens(&mut self, x: Outlet, d: &[i64]) -> Option<Outlet> {
        let shape = |dims: &[i64]| Op::Reshape { shape: dims.iter().map(|d| Dim::Const(*d)).collect() };
        match d[..] {
            [b, c, h, w] => {
                let last = self.add(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x]);
                Some(self.add(shape(&[b, h * w, c]), &[last]))
            }
            [b, c, f, h, w] => Some(self.add(shape(&[b, c * f, h, w]), &[x])),
            _ => None,
        }
    }

    fn swap(&mut self, x: Outlet, d: &[i64]) -> Outlet {
        let mut perm: Vec<usize> = (0..d.len()).collect();
        perm[1..].rotate_left(1);
        self.add(Op::Transpose { perm }, &[x])
    }

    fn concat(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let axis = 1 + detail as usize % (d.len() - 1);
        let fits = |o: &[i64]| o.len() == d.len() && (0..d.len()).all(|i| i == axis || o[i] == d[i]);
        let total = |o: &[i64]| o.iter().skip(1).product::<i64>() + d.iter().skip(1).product::<i64>();
        let other = self.pool.iter().copied().find(|o| fits(&self.dims(*o)) && total(&self.dims(*o)) <= LARGEST)?;
        Some(self.add(Op::Concat { axis }, &[other, x]))
    }

    fn slice(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let axis = 1 + detail as usize % (d.len() - 1);
        let (start, end) = (detail / 8 % 2, d[axis] - detail / 16 % 2);
        (start + 1 < end).then(|| self.add(Op::Slice { axis, start: start.into(), end: end.into() }, &[x]))
    }

    /// A mean, and the tensor without it half of the time.
    fn mean(&mut self, x: Outlet, d: &[i64], detail: i64) -> Outlet {
        let axis = 1 + detail as usize % (d.len() - 1);
        let mean = self.add(Op::ReduceMean { axes: vec![axis] }, &[x]);
        if detail / 8 % 2 == 0 {
            return mean;
        }
        let wide = self.add(Op::Expand { shape: d.iter().map(|n| Dim::Const(*n)).collect() }, &[mean]);
        self.add(Op::Binary(Binary::Sub), &[x, wide])
    }

    fn enlarge(&mut self, x: Outlet, d: &[i64], detail: i64) -> Option<Outlet> {
        let axis = 1 + detail as usize % (d.len() - 1);
        let one = |n: i64| (0..d.len()).map(|i| if i == axis { n } else { 0 }).collect::<Vec<i64>>();
        if d.iter().skip(1).product::<i64>() * 2 > LARGEST {
            return None;
        }
        let op = match detail / 8 % 2 {
            0 => Op::Upsample { factors: one(1).into_iter().map(|n| n + 1).collect() },
            _ => Op::Pad { before: one(1), after: one(detail % 2) },
        };
        Some(self.add(op, &[x]))
    }

    fn position(&mut self, x: Outlet, d: &[i64]) -> Option<Outlet> {
        let [_, l, c] = d[..] else { return None };
        (c % 2 == 0).then(|| {
            let heads = if c % 4 == 0 { 2 } else { 1 };
            let (cos, sin) = (self.literal(&[l, c / heads / 2], 1), self.literal(&[l, c / heads / 2], 1));
            self.add(Op::RotaryEmbedding { heads }, &[x, cos, sin])
        })
    }
}

mod tests {
    use super::*;
    use crate::interp::{literal, run};
    use crate::ir::op::{ForChunks, Join, Place, Sliced};
    use crate::ir::verify;

    /// The recipe as the body of a loop over the batch.
    fn chunked(recipe: &Recipe, batch: i64, count: i64) -> OpGraph {
        let ranges = ForChunks::even_ranges(batch, count);
        let mut extents: Vec<i64> = ranges.iter().map(|(s, e)| e - s).collect();
        extents.sort_unstable();
        extents.dedup();
        let bodies: Vec<(Place, OpGraph)> = extents.into_iter().map(|e| (Place::alone(e), recipe.graph(e))).collect();
        let names: Vec<String> = bodies[0].1.outputs().iter().map(|(n, _)| n.clone()).collect();
        // An output that comes from constants alone has no batch; recipes make none.
        let op = Op::ForChunks(Box::new(ForChunks {
            sliced: vec![Some(Sliced::plain(0))],
            joined: vec![Join::Along(0); names.len()],
            ranges,
            bodies,
        }));
        let mut graph = OpGraph::new("chunked");
        let shape: Vec<i64> = [batch].into_iter().chain(recipe.item.iter().copied()).collect();
        let x = graph.input("x", TensorType::new(DType::F32, shape));
        let all = graph.add(op, &[x], "chunks", &"g".into()).expect("the bodies fit");
        for (slot, name) in names.into_iter().enumerate() {
            graph.output(name, Outlet { slot: slot as u16, ..all });
        }
        graph
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn random_graphs_are_valid_and_small(graph in arb_graph()) {
            verify(&graph).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
            let operators = graph.nodes().into_iter().filter(|id| !matches!(graph.node(*id).op, Op::Input | Op::Weight(_))).count();
            prop_assert!((1..=20).contains(&operators) && !graph.outputs().is_empty());
        }

        #[test]
        fn f32_follows_f64(graph in arb_graph()) {
            let wide = run::<f64>(&graph, &inputs(&graph), &mut literal).expect("runs in f64");
            let narrow = run::<f32>(&graph, &inputs(&graph), &mut literal).expect("runs in f32");
            for (name, expect) in &wide {
                let far = distance(&narrow[name].mapv(f64::from), expect);
                prop_assert!(far < 1e-4, "{name}: {far:e}");
            }
        }

        #[test]
        fn chunks_over_the_batch_equal_the_whole(recipe in arb_recipe(), batch in 2..=4_i64, count in 1..=4_i64) {
            let (whole, chunked) = (recipe.graph(batch), chunked(&recipe, batch, count));
            verify(&chunked).map_err(|d| TestCaseError::fail(format!("{d:?}")))?;
            let expect = run::<f64>(&whole, &inputs(&whole), &mut literal).expect("runs whole");
            let got = run::<f64>(&chunked, &inputs(&chunked), &mut literal).expect("runs in chunks");
            for (name, expect) in &expect {
                let far = distance(&got[name], expect);
                prop_assert!(far < 1e-12, "{name}: {far:e}");
            }
        }
    }
}
