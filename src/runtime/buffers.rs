//! Memory of values that were freed, for the next ones of the same size.

use std::collections::BTreeMap;

use ndarray::ArrayD;

/// Freed arrays by their number of elements. Of each size that sessions write it holds no more than they write of it in all.
#[derive(Default)]
pub(super) struct Buffers {
    /// How many of each size may be held.
    most: BTreeMap<usize, usize>,
    free: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Buffers {
    /// For values with these numbers of elements.
    pub(super) fn for_sizes(sizes: impl Iterator<Item = usize>) -> Self {
        let mut most = BTreeMap::new();
        sizes.for_each(|len| *most.entry(len).or_insert(0) += 1);
        Self { most, free: BTreeMap::new() }
    }

    /// A buffer of `len` elements whose content is whatever it was.
    pub(super) fn take(&mut self, len: usize) -> Vec<f32> {
        self.free.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; len])
    }

    /// Takes an array's memory if there is use for it.
    pub(super) fn give(&mut self, array: ArrayD<f32>) {
        if !array.is_standard_layout() || array.is_empty() {
            return;
        }
        let len = array.len();
        // What is left of a larger array is not a buffer of that size.
        if let (data, Some(0)) = array.into_raw_vec_and_offset()
            && data.len() == len
        {
            self.put(data);
        }
    }

    fn put(&mut self, data: Vec<f32>) {
        let most = self.most.get(&data.len()).copied().unwrap_or(0);
        let free = self.free.entry(data.len()).or_default();
        if free.len() < most {
            free.push(data);
        }
    }

    /// Takes over what another has.
    pub(super) fn absorb(&mut self, other: Self) {
        other.free.into_values().flatten().for_each(|data| self.put(data));
    }

    /// All that is held; this one is empty then, for the same sizes.
    pub(super) fn split(&mut self) -> Self {
        Self { most: self.most.clone(), free: std::mem::take(&mut self.free) }
    }

    /// Gives everything back to the system.
    pub(super) fn clear(&mut self) {
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, IxDyn, Slice};

    use super::*;

    #[test]
    fn a_buffer_comes_back_for_its_size_alone() {
        let mut buffers = Buffers::for_sizes([4, 4, 6].into_iter());
        let array = ArrayD::<f32>::zeros(IxDyn(&[2, 2]));
        let at = array.as_ptr();
        buffers.give(array);
        assert_eq!(buffers.take(6).len(), 6);
        let (again, other) = (buffers.take(4), buffers.take(4));
        assert!(again.as_ptr() == at && other.as_ptr() != at);
    }

    #[test]
    fn no_more_is_held_than_there_is_use_for() {
        let mut buffers = Buffers::for_sizes([4].into_iter());
        for _ in 0..3 {
            buffers.give(ArrayD::zeros(IxDyn(&[4])));
            buffers.give(ArrayD::zeros(IxDyn(&[5])));
        }
        assert_eq!(buffers.free.values().map(Vec::len).sum::<usize>(), 1);
        // A part of an array is none of that size.
        let mut part = ArrayD::zeros(IxDyn(&[8]));
        part.slice_axis_inplace(Axis(0), Slice::from(0..4));
        let mut other = Buffers::for_sizes([4].into_iter());
        other.give(part);
        assert!(other.free.is_empty());
        other.absorb(buffers.split());
        assert_eq!((other.free[&4].len(), buffers.free.len()), (1, 0));
    }
}
