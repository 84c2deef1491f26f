//! Reading a call: its attributes, the types and elements of its inputs.

use super::{Elements, MAX_RANK, NodeInfo, PartialType, ShapeValue, ValueInfo};
use crate::ir::Dim;
use crate::onnx::proto::{AttributeProto, TensorProto, attribute_type};

/// An extent, or none where nothing is known.
pub(super) type Extent = Option<Dim>;
/// The extents of a tensor of known rank.
pub(super) type Extents = Vec<Extent>;
/// The types of the first outputs of a call, or why its inputs contradict it.
pub(super) type Outputs = Result<Vec<PartialType>, String>;

/// A tensor type.
pub(super) fn tensor(dtype: Option<i32>, shape: Option<Extents>) -> PartialType {
    PartialType { dtype, shape: shape.filter(|s| s.len() <= MAX_RANK) }
}

/// Extents that are numbers.
pub(super) fn numbers(extents: &[i64]) -> Option<Extents> {
    Some(extents.iter().map(|n| Some(Dim::Const(*n))).collect())
}

impl<'a> NodeInfo<'a> {
    /// Whether the operator is ONNX's own.
    pub(super) fn is_standard(&self) -> bool {
        matches!(self.domain, "" | "ai.onnx")
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.attributes.iter().find(|a| a.name == name && a.ref_attr_name.is_empty())
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        let a = self.attribute(name)?;
        // A writer may leave out a 0.
        a.i.or((a.r#type == attribute_type::INT).then_some(0))
    }

    pub(super) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name).map_or(default, |n| n != 0)
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    /// A list; an empty one is as good as none only where the operator says so.
    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref()?).ok()
    }

    pub(super) fn stored(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_deref()
    }

    /// An attribute that names an element type.
    pub(super) fn dtype_attribute(&self, name: &str) -> Option<i32> {
        self.int(name).and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0)
    }

    pub(super) fn input(&self, at: usize) -> Option<&'a ValueInfo> {
        self.inputs.get(at).copied().flatten()
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.input(at).is_some()
    }

    /// The type of an input, unknown if it is absent.
    pub(super) fn ty(&self, at: usize) -> PartialType {
        tensor(self.dtype(at), self.shape(at).map(<[Extent]>::to_vec))
    }

    pub(super) fn dtype(&self, at: usize) -> Option<i32> {
        self.input(at)?.ty.as_ref()?.dtype
    }

    pub(super) fn shape(&self, at: usize) -> Option<&'a [Extent]> {
        let shape = self.input(at)?.ty.as_ref()?.shape.as_deref()?;
        (shape.len() <= MAX_RANK).then_some(shape)
    }

    pub(super) fn extents(&self, at: usize) -> Option<Extents> {
        self.shape(at).map(<[Extent]>::to_vec)
    }

    pub(super) fn rank(&self, at: usize) -> Option<usize> {
        self.shape(at).map(<[Extent]>::len)
    }

    pub(super) fn extent(&self, at: usize, axis: usize) -> Extent {
        self.shape(at)?.get(axis)?.clone()
    }

    pub(super) fn value(&self, at: usize) -> Option<&'a ShapeValue> {
        let value = self.input(at)?.value.as_ref()?;
        value.is_consistent().then_some(value)
    }

    /// The elements of an input of integers.
    pub(super) fn dims(&self, at: usize) -> Option<&'a [Dim]> {
        match &self.value(at)?.elements {
            Elements::Dims(dims) => Some(dims),
            Elements::Numbers(_) => None,
        }
    }

    /// The elements of an input of integers that are all numbers.
    pub(super) fn known_ints(&self, at: usize) -> Option<Vec<i64>> {
        self.dims(at)?.iter().map(Dim::as_const).collect()
    }

    /// The elements of an input of floats.
    pub(super) fn floats(&self, at: usize) -> Option<&'a [f64]> {
        match &self.value(at)?.elements {
            Elements::Numbers(numbers) => Some(numbers),
            Elements::Dims(_) => None,
        }
    }

    /// How many elements a one-dimensional input has, if that is known; a scalar has 1.
    pub(super) fn length(&self, at: usize) -> Option<usize> {
        match self.shape(at)? {
            [] => Some(1),
            [Some(n)] => usize::try_from(n.as_const()?).ok(),
            _ => None,
        }
    }

    /// Axes that are an attribute up to some version and an input since: none if absent, else the axes if they are known.
    pub(super) fn axes(&self, input: usize) -> Option<Option<Vec<i64>>> {
        if let Some(axes) = self.ints("axes") {
            return Some(Some(axes.to_vec()));
        }
        self.has(input).then(|| self.known_ints(input))
    }
}

/// An axis counted from the front.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = from_front.and_then(|a| usize::try_from(a).ok()).filter(|a| *a < rank);
    found.ok_or_else(|| format!("axis {axis} of a tensor of rank {rank}"))
}

/// Axes counted from the front, each named once.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut seen = vec![false; rank];
    let mut out = Vec::new();
    for axis in axes {
        let axis = axis_of(*axis, rank)?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(format!("axis {axis} is named twice"));
        }
        out.push(axis);
    }
    Ok(out)
}
