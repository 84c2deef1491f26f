//! Which stretch of a long range of addresses each buffer gets: best fit, free neighbours joined.
//!
//! Arithmetic alone, no memory: the pool hands out what is behind the addresses, and the memory model asks the same question of a
//! schedule before anything runs. Everything counts in bytes from the start of the range.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every buffer begins at a multiple of this, which is what the kernels like best.
const ALIGN: usize = 64;

/// What a buffer of this many bytes takes.
pub(super) fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGN)
}

/// A range of addresses, the buffers in it and the gaps between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    /// Gaps by their start, below `end`; no two touch.
    gaps: BTreeMap<usize, usize>,
    /// The same by length, then start.
    by_length: BTreeSet<(usize, usize)>,
    /// Lengths of buffers by their start.
    taken: HashMap<usize, usize>,
    /// One past the last address that was handed out.
    end: usize,
}

impl Space {
    /// The start of a new buffer: in the shortest gap that holds it, of equals the first; behind all others if none does.
    pub(super) fn take(&mut self, bytes: usize) -> usize {
        let length = rounded(bytes);
        let start = match self.by_length.range((length, 0)..).next().copied() {
            Some((gap, start)) => {
                self.close(start, gap);
                if gap > length {
                    self.open(start + length, gap - length);
                }
                start
            }
            None => self.append(length),
        };
        self.taken.insert(start, length);
        start
    }

    /// A gap that reaches to the end is the beginning of a buffer that goes beyond it.
    fn append(&mut self, length: usize) -> usize {
        let last = self.gaps.last_key_value().map(|(start, gap)| (*start, *gap)).filter(|(start, gap)| start + gap == self.end);
        let start = last.map_or(self.end, |(start, gap)| {
            self.close(start, gap);
            start
        });
        self.end = start + length;
        start
    }

    /// Gives a buffer back; its length, or `None` if none starts there.
    pub(super) fn give_back(&mut self, start: usize) -> Option<usize> {
        let length = self.taken.remove(&start)?;
        let (mut from, mut to) = (start, start + length);
        if let Some((before, gap)) = self.gaps.range(..start).next_back().map(|(s, g)| (*s, *g))
            && before + gap == start
        {
            self.close(before, gap);
            from = before;
        }
        if let Some(gap) = self.gaps.get(&to).copied() {
            self.close(to, gap);
            to += gap;
        }
        self.open(from, to - from);
        Some(length)
    }

    fn open(&mut self, start: usize, length: usize) {
        self.gaps.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn close(&mut self, start: usize, length: usize) {
        self.gaps.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// One past the last byte that was ever handed out since [`Self::forget_gaps`]: what is in memory, gaps included.
    pub(super) fn reach(&self) -> usize {
        self.end
    }

    /// The gaps as (start, length); what lies behind the last buffer is one no more.
    pub(super) fn forget_gaps(&mut self) -> Vec<(usize, usize)> {
        let gaps: Vec<(usize, usize)> = self.gaps.iter().map(|(start, gap)| (*start, *gap)).collect();
        if let Some(&(start, gap)) = gaps.last()
            && start + gap == self.end
        {
            self.close(start, gap);
            self.end = start;
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shortest_gap_that_holds_it_is_taken() {
        let mut space = Space::default();
        let [a, b, c, d] = [640, 64, 320, 64].map(|n| space.take(n));
        assert_eq!([a, b, c, d], [0, 640, 704, 1024]);
        space.give_back(a);
        space.give_back(c);
        assert_eq!(space.take(300), 704, "320 bytes are rounded up from 300");
        assert_eq!(space.take(65), 0);
        assert_eq!(space.reach(), 1088);
    }

    #[test]
    fn neighbours_join_and_the_last_gap_grows() {
        let mut space = Space::default();
        let [a, b, c] = [64, 128, 64].map(|n| space.take(n));
        space.give_back(a);
        space.give_back(c);
        assert_eq!(space.give_back(b), Some(128));
        assert_eq!(space.give_back(b), None);
        assert_eq!((space.take(1024), space.reach()), (0, 1024));
        space.give_back(0);
        assert_eq!(space.forget_gaps(), [(0, 1024)]);
        assert_eq!((space.take(64), space.reach()), (0, 64));
    }

    proptest! {
        #[test]
        fn buffers_never_overlap_and_all_comes_back(steps in prop::collection::vec((1usize..5000, any::<u8>()), 1..200)) {
            let mut space = Space::default();
            let mut live: Vec<(usize, usize)> = Vec::new();
            for (bytes, pick) in steps {
                if pick % 3 == 0 && !live.is_empty() {
                    let (start, length) = live.remove(usize::from(pick) % live.len());
                    prop_assert_eq!(space.give_back(start), Some(length));
                } else {
                    let (start, length) = (space.take(bytes), bytes.next_multiple_of(ALIGN));
                    prop_assert_eq!(start % ALIGN, 0);
                    for (s, l) in &live {
                        prop_assert!(start + length <= *s || s + l <= start);
                    }
                    live.push((start, length));
                }
                prop_assert!(live.iter().all(|(s, l)| s + l <= space.reach()));
            }
            for (start, _) in live {
                space.give_back(start);
            }
            prop_assert_eq!(space.forget_gaps().len(), 1);
            prop_assert_eq!(space.reach(), 0);
        }
    }
}
