//! Which stretch of a long range of addresses each buffer gets, and which gaps between buffers keep their memory.
//!
//! Best fit, free neighbours joined. Buffers of many sizes leave gaps that nothing fits into, so that the range reaches further than
//! the buffers need. Addresses cost nothing, but the memory behind a gap does: when more would be in memory than buffers ever needed at
//! once, the memory of gaps is given back, the longest first. So the range never has more memory than the most that its buffers had at
//! once, and [`SLACK`].
//!
//! Arithmetic alone: the pool does what is said here. Everything counts in bytes from the start of the range.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every buffer begins at a multiple of this, which is what the kernels like best.
const ALIGN: usize = 64;
/// What memory is given back by.
const PAGE: usize = 4096;
/// Memory of gaps that is not worth a call.
const SLACK: usize = 1 << 20;

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
    /// Parts of gaps without memory, by their start; no two touch.
    bare: BTreeMap<usize, usize>,
    /// Bytes of buffers.
    in_use: usize,
    /// The most of that so far.
    most: usize,
    /// Bytes with memory.
    backed: usize,
    /// The most of that so far.
    most_backed: usize,
}

/// Where a new buffer is, and which stretches, as (start, length), lose their memory for it.
pub(super) type Taken = (usize, Vec<(usize, usize)>);

impl Space {
    /// A new buffer: in the shortest gap that holds it, of equals the first; behind all others if none does.
    pub(super) fn take(&mut self, bytes: usize) -> Taken {
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
        self.in_use += length;
        self.most = self.most.max(self.in_use);
        self.back(start, length);
        let lost = self.strip(self.most + SLACK);
        self.most_backed = self.most_backed.max(self.backed);
        (start, lost)
    }

    /// A gap that reaches to the end is the beginning of a buffer that goes beyond it.
    fn append(&mut self, length: usize) -> usize {
        let last = self.gaps.last_key_value().map(|(start, gap)| (*start, *gap)).filter(|(start, gap)| start + gap == self.end);
        let start = last.map_or(self.end, |(start, gap)| {
            self.close(start, gap);
            start
        });
        // What is new has no memory yet, like a gap that lost it.
        self.bare.insert(self.end, start + length - self.end);
        self.end = start + length;
        start
    }

    /// Gives a buffer back; its length, or `None` if none starts there.
    pub(super) fn give_back(&mut self, start: usize) -> Option<usize> {
        let length = self.taken.remove(&start)?;
        self.in_use -= length;
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

    /// A stretch is written to: what of it was bare has memory now.
    fn back(&mut self, start: usize, length: usize) {
        let end = start + length;
        let touched: Vec<(usize, usize)> = self.bare_in(start, end).collect();
        for (from, long) in touched {
            self.bare.remove(&from);
            let to = from + long;
            if from < start {
                self.bare.insert(from, start - from);
            }
            if to > end {
                self.bare.insert(end, to - end);
            }
            self.backed += to.min(end) - from.max(start);
        }
    }

    /// The bare stretches that reach into a stretch.
    fn bare_in(&self, start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
        let before = self.bare.range(..start).next_back().filter(move |(from, long)| *from + *long > start);
        before.into_iter().chain(self.bare.range(start..end)).map(|(from, long)| (*from, *long))
    }

    /// Takes memory from gaps, the longest first, until no more than `limit` has some; the stretches that lose it.
    fn strip(&mut self, limit: usize) -> Vec<(usize, usize)> {
        let mut lost = Vec::new();
        if self.backed <= limit {
            return lost;
        }
        let gaps: Vec<(usize, usize)> = self.by_length.iter().rev().take_while(|(gap, _)| *gap > PAGE).copied().collect();
        for (gap, start) in gaps {
            if self.backed <= limit {
                break;
            }
            for (from, to) in self.backed_in(start, start + gap) {
                let need = self.backed.saturating_sub(limit).next_multiple_of(PAGE);
                let to = to / PAGE * PAGE;
                let from = from.next_multiple_of(PAGE).max(to.saturating_sub(need));
                if from < to {
                    self.bare.insert(from, to - from);
                    self.backed -= to - from;
                    lost.push((from, to - from));
                }
            }
        }
        lost
    }

    /// The stretches between the bare ones of a gap, as (start, end).
    fn backed_in(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let mut out = Vec::new();
        let mut at = start;
        for (from, long) in self.bare_in(start, end) {
            out.push((at, from));
            at = from + long;
        }
        out.push((at, end));
        out.retain(|(from, to)| from < to);
        out
    }

    /// The most bytes that had memory at once.
    pub(super) fn most_backed(&self) -> usize {
        self.most_backed
    }

    /// One past the last address that was handed out.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Takes the memory of all gaps, and begins to count anew how much is needed; the stretches that lose it.
    pub(super) fn shrink(&mut self) -> Vec<(usize, usize)> {
        self.most = self.in_use;
        self.strip(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_shortest_gap_that_holds_it_is_taken() {
        let mut space = Space::default();
        let [a, b, c, d] = [640, 64, 320, 64].map(|n| space.take(n).0);
        assert_eq!([a, b, c, d], [0, 640, 704, 1024]);
        space.give_back(a);
        space.give_back(c);
        assert_eq!(space.take(300).0, 704, "320 bytes are rounded up from 300");
        assert_eq!(space.take(65).0, 0);
        assert_eq!(space.end(), 1088);
    }

    #[test]
    fn neighbours_join_and_the_last_gap_grows() {
        let mut space = Space::default();
        let [a, b, c] = [64, 128, 64].map(|n| space.take(n).0);
        space.give_back(a);
        space.give_back(c);
        assert_eq!(space.give_back(b), Some(128));
        assert_eq!(space.give_back(b), None);
        assert_eq!((space.take(1024).0, space.end()), (0, 1024));
    }

    #[test]
    fn a_gap_that_nothing_fits_into_loses_its_memory() {
        let mut space = Space::default();
        let [a, _, c] = [8 * MIB, MIB, 8 * MIB].map(|n| space.take(n).0);
        space.give_back(a);
        space.give_back(c);
        // It goes behind, from where c was. No more than 17 MiB were in use at once, so 7 of the 25 lose their memory.
        assert_eq!(space.take(16 * MIB), (9 * MIB, vec![(MIB, 7 * MIB)]));
        assert_eq!(space.most_backed(), 17 * MIB + SLACK);
        // What lies there next has memory again, and takes it from another gap.
        space.give_back(9 * MIB);
        assert_eq!(space.take(4 * MIB), (0, vec![(22 * MIB, 3 * MIB)]));
        space.give_back(0);
        assert_eq!(space.shrink(), [(9 * MIB, 13 * MIB), (0, 4 * MIB)]);
    }

    proptest! {
        #[test]
        fn buffers_never_overlap_and_memory_is_what_they_needed(
            steps in prop::collection::vec((1usize..(4 * MIB), any::<u8>()), 1..200),
        ) {
            let mut space = Space::default();
            let mut live: Vec<(usize, usize)> = Vec::new();
            let mut most = 0;
            for (bytes, pick) in steps {
                if pick % 3 == 0 && !live.is_empty() {
                    let (start, length) = live.remove(usize::from(pick) % live.len());
                    prop_assert_eq!(space.give_back(start), Some(length));
                } else {
                    let ((start, lost), length) = (space.take(bytes), rounded(bytes));
                    prop_assert_eq!(start % ALIGN, 0);
                    live.push((start, length));
                    for (from, long) in lost {
                        prop_assert!(live.iter().all(|(s, l)| from + long <= *s || s + l <= from), "a buffer lost its memory");
                    }
                    for (s, l) in &live[..live.len() - 1] {
                        prop_assert!(start + length <= *s || s + l <= start);
                    }
                }
                most = most.max(live.iter().map(|(_, l)| l).sum());
                // Gaps keep the pages that they share with buffers.
                prop_assert!(space.most_backed() <= most + SLACK + 2 * PAGE * (live.len() + 1));
                prop_assert!(live.iter().all(|(s, l)| space.bare_in(*s, s + l).next().is_none()));
            }
        }
    }
}
