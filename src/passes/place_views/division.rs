//! How the axes of a cluster are divided, and which shape that gives each tensor of it.

use super::Shape;

/// A division of a cluster's axes: whole shapes, or all axes but the last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Division {
    axes: Shape,
    /// Is the last axis of each tensor as it was, and not among `axes`?
    last: bool,
}

impl Division {
    /// The division that a tensor of this shape has; `last` if its last axis stays.
    pub(super) fn of(shape: &[i64], last: bool) -> Option<Self> {
        let axes = if last { shape.split_last()?.1 } else { shape };
        Some(Self { axes: axes.to_vec(), last })
    }

    /// A tensor's shape under this division, if it has as many elements.
    pub(super) fn shape(&self, of: &[i64]) -> Option<Shape> {
        let mut shape = self.axes.clone();
        if self.last {
            shape.push(*of.last()?);
        }
        let count = |s: &[i64]| s.iter().product::<i64>();
        (count(&shape) == count(of)).then_some(shape)
    }
}

/// The shape in which a tensor broadcasts to `new` as it did to `old`: runs of axes that are divided differently must be all its
/// own or not at all.
pub(super) fn rebroadcast(small: &[i64], old: &[i64], new: &[i64]) -> Option<Shape> {
    let mut wide = vec![1; old.len().checked_sub(small.len())?];
    wide.extend_from_slice(small);
    let (mut i, mut j, mut shape) = (0, 0, Vec::with_capacity(new.len()));
    while i < old.len() || j < new.len() {
        let (from, to) = (i, j);
        let (mut a, mut b) = (1_i64, 1_i64);
        loop {
            if a <= b && i < old.len() && (a < b || i == from) {
                a *= old[i];
                i += 1;
            } else if b <= a && j < new.len() && (b < a || j == to) {
                b *= new[j];
                j += 1;
            } else {
                break;
            }
        }
        if a != b {
            return None;
        }
        if wide[from..i].iter().all(|d| *d == 1) {
            shape.extend(std::iter::repeat_n(1, j - to));
        } else if wide[from..i] == old[from..i] {
            shape.extend_from_slice(&new[to..j]);
        } else {
            return None;
        }
    }
    let ones = shape.iter().take_while(|d| **d == 1).count().min(shape.len().saturating_sub(1));
    Some(shape.split_off(ones))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(small: &[i64], old: &[i64], new: &[i64], expect: Option<&[i64]>) {
        assert_eq!(rebroadcast(small, old, new).as_deref(), expect, "{small:?} over {old:?} as {new:?}");
    }

    #[test]
    fn what_broadcasts_follows_if_its_axes_stay_whole() {
        check(&[8, 1, 1], &[2, 8, 4, 4], &[2, 8, 16], Some(&[8, 1]));
        check(&[8], &[2, 3, 8], &[6, 8], Some(&[8]));
        check(&[2, 1, 8], &[2, 3, 8], &[6, 8], None);
        check(&[2, 1, 8], &[2, 12, 8], &[2, 3, 4, 8], Some(&[2, 1, 1, 8]));
        check(&[1], &[2, 3], &[6], Some(&[1]));
        check(&[3, 4], &[2, 3, 4], &[2, 12], Some(&[12]));
        check(&[4], &[2, 3, 4], &[2, 12], None);
    }
}
