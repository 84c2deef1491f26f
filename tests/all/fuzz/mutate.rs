//! Mutants of models: fields of the messages, and now and then bytes.

use std::collections::BTreeSet;

use vidc::ir::Bindings;
use vidc::onnx;
use vidc::onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue, ValueInfoProto,
};

/// Sizes and indices at which arithmetic goes wrong.
const NUMBERS: [i64; 24] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    4,
    5,
    7,
    16,
    -16,
    63,
    64,
    1 << 31,
    -(1 << 31),
    (1 << 32) + 1,
    1 << 40,
    (1 << 40) + 1,
    1 << 53,
    1 << 62,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN + 1,
    i64::MIN,
];
/// Element types, two of them none.
const TYPES: [i32; 12] = [1, 7, 9, 10, 6, 8, 11, 16, 2, 4, 0, 99];
/// Names of dims.
const DIMS: [&str; 4] = ["n", "batch", "a b", ""];

/// Makes one mutant after the other.
pub(super) struct Mutator {
    seeds: Vec<ModelProto>,
    attributes: Vec<AttributeProto>,
    nodes: Vec<NodeProto>,
    state: u64,
}

impl Mutator {
    pub(super) fn new(seeds: Vec<ModelProto>, seed: u64) -> Self {
        let graphs: Vec<&GraphProto> = seeds.iter().filter_map(|m| m.graph.as_ref()).collect();
        let nodes: Vec<NodeProto> = graphs.iter().flat_map(|g| &g.node).cloned().collect();
        let attributes = nodes.iter().flat_map(|n| &n.attribute).cloned().collect();
        Self { seeds, attributes, nodes, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Bytes of a model, and values for some of its dims.
    pub(super) fn next(&mut self) -> (Vec<u8>, Bindings) {
        let at = self.below(self.seeds.len());
        let mut model = self.seeds[at].clone();
        if self.one_in(3) {
            open_dims(&mut model);
        }
        for _ in 0..=self.below(6) {
            self.fields(&mut model);
        }
        let mut bytes = onnx::encode(&model).unwrap();
        if self.one_in(6) {
            self.bytes(&mut bytes);
        }
        (bytes, self.bindings(&model))
    }

    /// Xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(of.len());
        of.get(at)
    }

    fn one_mut<'a, T>(&mut self, of: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(of.len());
        of.get_mut(at)
    }

    fn number(&mut self) -> i64 {
        let at = self.below(NUMBERS.len());
        NUMBERS[at]
    }

    /// Mostly small ones.
    fn size(&mut self) -> i64 {
        if self.one_in(3) { self.number() } else { self.below(9) as i64 - 1 }
    }

    fn bindings(&mut self, model: &ModelProto) -> Bindings {
        let names: BTreeSet<String> = model.graph.iter().flat_map(|g| &g.input).flat_map(names_of_dims).collect();
        let bound: Vec<String> = names.into_iter().filter(|_| self.one_in(3)).collect();
        bound.into_iter().map(|name| (name, self.size().max(0))).collect()
    }

    fn fields(&mut self, model: &mut ModelProto) {
        let Some(graph) = &mut model.graph else { return };
        match self.below(12) {
            0 => {
                let version = self.below(32) as i64;
                model.opset_import.iter_mut().for_each(|o| o.version = version.max(9));
            }
            1..=3 => self.wires(graph),
            4..=5 => self.attribute(graph),
            6 => self.declaration(graph),
            7 => self.stored(graph),
            8 => self.kind(graph),
            9 => self.chain(graph),
            10 => self.constants(graph),
            _ => self.nested(graph),
        }
    }

    /// Which values a node reads and makes.
    fn wires(&mut self, graph: &mut GraphProto) {
        let names: Vec<String> = names_of(graph);
        let name = self.one(&names).cloned().unwrap_or_default();
        let what = self.below(7);
        if what == 6 && graph.node.len() > 1 {
            let at = self.below(graph.node.len());
            graph.node.remove(at);
            return;
        }
        let Some(node) = self.one_mut(&mut graph.node) else { return };
        let (input, output) = (self.below(node.input.len()), self.below(node.output.len()));
        match what {
            0..=2 if !node.input.is_empty() => node.input[input] = name,
            3 => node.input.push(name),
            4 if !node.input.is_empty() => node.input[input] = String::new(),
            5 if !node.output.is_empty() => node.output[output] = String::new(),
            _ => node.input.truncate(input),
        }
    }

    fn attribute(&mut self, graph: &mut GraphProto) {
        let (value, length) = (self.number(), self.below(6));
        let other = self.one(&self.attributes.clone()).cloned();
        let at = self.below(8);
        let Some(node) = self.one_mut(&mut graph.node) else { return };
        if let (0, Some(other)) = (at, other.clone()) {
            node.attribute.push(other);
            return;
        }
        let Some(a) = self.one_mut(&mut node.attribute) else { return };
        match at {
            1 => a.ints = vec![value; length],
            2 => *a = AttributeProto { name: a.name.clone(), ..other.unwrap_or_default() },
            3 => a.s = Some(b"nothing".to_vec()),
            4 => a.f = Some(f32::NAN),
            _ => {
                a.i = a.i.map(|_| value);
                if let Some(n) = self.one_mut(&mut a.ints) {
                    *n = value;
                }
                if let Some(t) = &mut a.t {
                    self.tensor(t);
                }
            }
        }
    }

    fn declaration(&mut self, graph: &mut GraphProto) {
        let (size, word, element) = (self.size(), self.below(DIMS.len()), self.below(TYPES.len()));
        let what = self.below(6);
        let values = if self.one_in(4) { &mut graph.output } else { &mut graph.input };
        let Some(TypeValue::Tensor(tensor)) = self.one_mut(values).and_then(|v| v.r#type.as_mut()).and_then(|t| t.value.as_mut()) else {
            return;
        };
        let Some(shape) = &mut tensor.shape else { return };
        let dim = match what {
            0 => return tensor.elem_type = TYPES[element],
            1 => return tensor.shape = None,
            2 => DimensionProto { value: Some(DimensionValue::Param(DIMS[word].into())), ..DimensionProto::default() },
            _ => DimensionProto { value: Some(DimensionValue::Value(size)), ..DimensionProto::default() },
        };
        match self.one_mut(&mut shape.dim) {
            Some(d) if what < 5 => *d = dim,
            _ => shape.dim.push(dim),
        }
    }

    fn stored(&mut self, graph: &mut GraphProto) {
        if let Some(t) = self.one_mut(&mut graph.initializer) {
            self.tensor(t);
        }
    }

    fn tensor(&mut self, t: &mut TensorProto) {
        let (size, element) = (self.size(), self.below(TYPES.len()));
        match self.below(6) {
            0 => t.data_type = TYPES[element],
            1 => t.raw_data = t.raw_data.as_ref().map(|raw| raw.slice(..raw.len() / 2)),
            2 => {
                if let Some(d) = self.one_mut(&mut t.dims) {
                    *d = size;
                }
            }
            _ => self.values(t),
        }
    }

    /// Other integers where integers stand.
    fn values(&mut self, t: &mut TensorProto) {
        let value = self.size();
        if let (7, Some(raw)) = (t.data_type, &t.raw_data) {
            let mut bytes = raw.to_vec();
            let at = self.below(bytes.len() / 8) * 8;
            if let Some(place) = bytes.get_mut(at..at + 8) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            t.raw_data = Some(bytes.into());
        }
        if let Some(n) = self.one_mut(&mut t.int64_data) {
            *n = value;
        }
    }

    /// The same node as another operator.
    fn kind(&mut self, graph: &mut GraphProto) {
        let other = self.one(&self.nodes.clone()).cloned().unwrap_or_default();
        if let Some(node) = self.one_mut(&mut graph.node) {
            (node.op_type, node.domain, node.attribute) = (other.op_type, other.domain, other.attribute);
        }
    }

    /// A node of another model behind one of this.
    fn chain(&mut self, graph: &mut GraphProto) {
        let names = names_of(graph);
        let mut other = self.one(&self.nodes.clone()).cloned().unwrap_or_default();
        let at = graph.node.len();
        for input in &mut other.input {
            *input = self.one(&names).cloned().unwrap_or_default();
        }
        for (i, output) in other.output.iter_mut().enumerate() {
            *output = format!("more{at}_{i}");
        }
        if let Some(name) = other.output.first() {
            graph.output.push(ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() });
        }
        graph.node.push(other);
    }

    /// An input becomes a stored vector of integers.
    fn constants(&mut self, graph: &mut GraphProto) {
        let Some(name) = self.one(&graph.input.clone()).map(|v| v.name.clone()) else { return };
        let values: Vec<i64> = (0..self.below(5)).map(|_| self.size()).collect();
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        graph.initializer.push(onnx::build::tensor(&name, 7, &[values.len() as i64], raw));
    }

    /// The same inside of a body.
    fn nested(&mut self, graph: &mut GraphProto) {
        let mut bodies: Vec<&mut GraphProto> =
            graph.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.g.as_deref_mut()).collect();
        let what = self.below(4);
        if let Some(body) = self.one_mut(&mut bodies) {
            match what {
                0 => self.wires(body),
                1 => self.attribute(body),
                2 => self.kind(body),
                _ => self.chain(body),
            }
        }
    }

    fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let (at, value) = (self.below(bytes.len()), self.random() as u8);
            match self.below(4) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, value),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = value),
            }
        }
    }
}

/// Fixed sizes of the inputs become names.
fn open_dims(model: &mut ModelProto) {
    for input in model.graph.iter_mut().flat_map(|g| &mut g.input) {
        let Some(TypeValue::Tensor(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        for dim in tensor.shape.iter_mut().flat_map(|s| &mut s.dim) {
            if let Some(DimensionValue::Value(n)) = dim.value {
                dim.value = Some(DimensionValue::Param(format!("d{n}")));
            }
        }
    }
}

fn names_of(graph: &GraphProto) -> Vec<String> {
    let made = graph.node.iter().flat_map(|n| &n.output).cloned();
    let given = graph.input.iter().map(|v| v.name.clone()).chain(graph.initializer.iter().map(|t| t.name.clone()));
    made.chain(given).filter(|n| !n.is_empty()).collect()
}

fn names_of_dims(value: &ValueInfoProto) -> Vec<String> {
    let Some(TypeValue::Tensor(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return Vec::new() };
    let name = |d: &DimensionProto| if let Some(DimensionValue::Param(name)) = &d.value { Some(name.clone()) } else { None };
    tensor.shape.iter().flat_map(|s| &s.dim).filter_map(name).filter(|n| !n.is_empty()).collect()
}
