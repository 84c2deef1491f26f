//! One call of a session: inputs are views of the values, outputs are written into the arrays that become the values.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{ArrayD, ArrayViewD, Axis, CowArray, IxDyn, Slice};

use super::super::session::Session;
use super::super::tensor::{TensorView, TensorViewMut};
use super::{Event, Run, bug};
use crate::diag::Result;
use crate::ir::pipeline::Value;
use crate::units::Bytes;

/// What a call is given and makes.
pub(super) struct Call<'a> {
    pub(super) session: usize,
    /// The pieces of the first axis, one run each; none for one run over everything.
    pub(super) ranges: &'a [(usize, usize)],
    /// Port, value, and whether a piece sees only its part.
    pub(super) inputs: Vec<(&'a str, usize, bool)>,
    /// Port and value.
    pub(super) outputs: &'a [(String, usize)],
}

/// An output in the making.
struct Output<'a> {
    port: &'a str,
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Run<'_> {
    /// Runs a session over the ranges and sets the outputs, joined along the first axis.
    pub(super) fn call(&mut self, call: &Call<'_>, iteration: usize) -> Result<()> {
        let outputs = call.outputs;
        // What is fed need not be computed.
        if !outputs.is_empty() && outputs.iter().all(|(_, v)| self.is_fed(*v, iteration)) {
            return outputs.iter().try_for_each(|(_, v)| self.set(*v, Value::Tensor(ArrayD::zeros(IxDyn(&[0]))), iteration));
        }
        let name = &self.manifest().sessions[call.session].name;
        if outputs.iter().all(|(_, v)| self.manifest().values[*v].loops == 0) {
            (self.events)(Event::Stage(name.clone()));
        }
        self.tell_call(call.session);
        let mut made: Vec<Output<'_>> = Vec::new();
        for (port, value) in outputs {
            let shape = self.manifest().values[*value].extents();
            let data = self.claim(*value, shape.iter().product());
            made.push(Output { port, shape, data });
        }
        let (took, most) = self.in_session(call, &mut made)?;
        let measured = self.measured.entry(call.session).or_default();
        measured.activation_bytes = measured.activation_bytes.max(most);
        measured.run_s += took.as_secs_f64();
        measured.runs += call.ranges.len().max(1);
        for ((_, value), output) in outputs.iter().zip(made) {
            let array = ArrayD::from_shape_vec(IxDyn(&output.shape), output.data);
            self.set(
                *value,
                Value::Tensor(array.map_err(|e| bug(&format!("an output has another size than its shape: {e}")))?),
                iteration,
            )?;
        }
        Ok(())
    }

    fn tell_call(&mut self, session: usize) {
        let sessions = &self.manifest().sessions;
        let loaded = || sessions.iter().enumerate().filter(|(i, _)| self.is_loaded(*i)).map(|(_, s)| s);
        let names = loaded().map(|s| s.name.clone()).collect();
        let bytes = loaded().map(|s| s.weight_bytes).sum();
        (self.events)(Event::Call(sessions[session].name.clone(), names, bytes));
    }

    /// Memory for an output of `len` elements: that of the value from the last time round, else any that was freed.
    fn claim(&mut self, value: usize, len: usize) -> Vec<f32> {
        self.free(value);
        self.buffers.take(len)
    }

    /// Frees a value; its memory is used again if nobody else holds it.
    pub(super) fn free(&mut self, value: usize) {
        if let Some(Ok(Value::Tensor(array))) = self.values[value].take().map(Arc::try_unwrap) {
            self.buffers.give(array);
        }
    }

    /// Runs the pieces in the run's own session, or in the shared one while its lock is held; how long ONNX Runtime took, and
    /// the most memory that one run had in use.
    fn in_session(&mut self, call: &Call<'_>, made: &mut [Output<'_>]) -> Result<(Duration, Bytes)> {
        let unloaded = || bug("a session runs that is not loaded");
        if self.prepared.keeps(call.session) {
            let mut shared = self.prepared.shared(call.session);
            return self.pieces(shared.as_mut().ok_or_else(unloaded)?, call, made);
        }
        let mut own = self.own[call.session].take().ok_or_else(unloaded)?;
        let took = self.pieces(&mut own, call, made);
        self.own[call.session] = Some(own);
        took
    }

    fn pieces(&self, session: &mut Session, call: &Call<'_>, made: &mut [Output<'_>]) -> Result<(Duration, Bytes)> {
        let total = call.ranges.last().copied().map(|(_, total)| total);
        let parts = total.map_or_else(|| vec![None], |total| call.ranges.iter().map(|range| Some((*range, total))).collect());
        let mut all = (Duration::ZERO, Bytes(0));
        for part in parts {
            all.0 += self.piece(session, call, part, made)?;
            all.1 = all.1.max(session.last_run().most);
        }
        Ok(all)
    }

    /// One run of the session; `part` is the range and the extent of the whole axis.
    fn piece(
        &self,
        session: &mut Session,
        call: &Call<'_>,
        part: Option<((usize, usize), usize)>,
        made: &mut [Output<'_>],
    ) -> Result<Duration> {
        let range = part.map(|(range, _)| range);
        let input = |(_, v, cut): &(&str, usize, bool)| Ok(contiguous(self.value(*v)?.tensor()?, range.filter(|_| *cut)));
        let arrays = call.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let views =
            call.inputs.iter().zip(&arrays).map(|((port, ..), a)| {
                Ok((*port, TensorView::of(a.shape(), a.as_slice().ok_or_else(|| bug("a piece is not contiguous"))?)))
            });
        let views = views.collect::<Result<Vec<_>>>()?;
        let places = made.iter().map(|o| place(&o.shape, part)).collect::<Result<Vec<_>>>()?;
        let outputs = made.iter_mut().zip(&places);
        let outputs = outputs.map(|(o, (shape, span))| (o.port, TensorViewMut::of(shape, &mut o.data[span.clone()]))).collect();
        self.control.limit_memory(self.prepared.limit(call.session));
        session.run_into(&views, outputs, Some(&self.control))
    }
}

/// Shape and elements of a piece's output within the whole one. Pieces join along the first axis, so each is one run of elements.
fn place(shape: &[usize], part: Option<((usize, usize), usize)>) -> Result<(Vec<usize>, Range<usize>)> {
    let Some(((start, end), total)) = part else { return Ok((shape.to_vec(), 0..shape.iter().product())) };
    let unjoined = || bug("the pieces of an output do not join along its first axis");
    let first = *shape.first().ok_or_else(unjoined)?;
    if total == 0 || first % total != 0 {
        return Err(unjoined());
    }
    // An output may have several rows for each of the input's.
    let rows = first / total;
    let row: usize = shape[1..].iter().product();
    let mut piece = shape.to_vec();
    piece[0] = (end - start) * rows;
    Ok((piece, start * rows * row..end * rows * row))
}

/// The part of an array that a piece sees: a view where it lies in one run in row-major order, as every cut along the first axis of
/// an array in standard layout does; else a copy.
fn contiguous(mut x: ArrayViewD<'_, f32>, range: Option<(usize, usize)>) -> CowArray<'_, f32, IxDyn> {
    if let Some((start, end)) = range {
        x.slice_axis_inplace(Axis(0), Slice::from(start..end));
    }
    if x.is_standard_layout() { CowArray::from(x) } else { CowArray::from(x.as_standard_layout().into_owned()) }
}

/// A clock around `work`.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_one_behind_the_other() {
        assert_eq!(place(&[4, 3], None).unwrap(), (vec![4, 3], 0..12));
        assert_eq!(place(&[4, 3], Some(((0, 1), 2))).unwrap(), (vec![2, 3], 0..6));
        assert_eq!(place(&[4, 3], Some(((1, 4), 4))).unwrap(), (vec![3, 3], 3..12));
        assert!(place(&[3, 3], Some(((0, 1), 2))).is_err() && place(&[], Some(((0, 1), 2))).is_err());
    }

    #[test]
    fn cuts_along_the_first_axis_are_views() {
        let x = ArrayD::from_shape_fn(IxDyn(&[4, 2, 3]), |i| (i[0] * 6 + i[1] * 3 + i[2]) as f32);
        let cut = contiguous(x.view(), Some((1, 3)));
        assert!(cut.is_view());
        assert_eq!(cut.as_slice().unwrap()[0], 6.0);
        let turned = contiguous(x.view().permuted_axes(IxDyn(&[1, 0, 2])), None);
        assert!(!turned.is_view());
        assert_eq!(turned.as_slice().unwrap()[..4], [0.0, 1.0, 2.0, 6.0]);
    }
}
