//! The answers of a level's knob: into how many pieces of frames its spatial runs are cut, into how many of rows its temporal ones.

use std::fmt;
use std::str::FromStr;

use super::region::counts;
use super::sweep::Tiles;

/// At most this many pieces of frames, unless rows are cut too.
const MOST: i64 = 16;
/// Pieces of rows on offer.
const ROWS: [i64; 3] = [4, 8, 16];
/// At most this many blocks, frames times rows, between two runs that are cut differently: each is a tensor, and an input of a node.
const MOST_BLOCKS: i64 = 512;

/// An answer: `4`, `4.rows-8`, `4.rows-8.again`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Pieces of frames in spatial runs.
    pub(super) frames: i64,
    /// Tiles of rows in temporal runs, if they are cut.
    pub(super) rows: Option<Tiles>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.frames)?;
        let Some(rows) = self.rows else { return Ok(()) };
        write!(f, ".rows-{}{}", rows.count, if rows.again { ".again" } else { "" })
    }
}

impl FromStr for Answer {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (word, again) = word.strip_suffix(".again").map_or((word, false), |rest| (rest, true));
        let (frames, rows) = word.split_once(".rows-").map_or((word, None), |(frames, rows)| (frames, Some(rows)));
        let count = |n: &str| n.parse::<i64>().map_err(|_| ());
        let rows = rows.map(|n| Ok(Tiles { count: count(n)?, again })).transpose()?;
        Ok(Self { frames: count(frames)?, rows })
    }
}

/// What a level can be cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Frames of its spatial runs; 0 if it has none.
    pub(super) frames: i64,
    /// Rows of its temporal runs; 0 if it has none.
    pub(super) rows: i64,
    /// May what norms of temporal runs read be kept or computed again?
    pub(super) choice: bool,
}

/// The answers for a level, the plain one first. Where rows are cut, spatial runs are cut as finely as the blocks between the two allow:
/// rows are cut to save memory, and whole images would take it again.
pub(super) fn answers(level: Level) -> Vec<Answer> {
    let frames = counts(level.frames.max(1), MOST);
    let mut all: Vec<Answer> = frames.iter().map(|frames| Answer { frames: *frames, rows: None }).collect();
    for count in ROWS.into_iter().filter(|n| *n <= level.rows) {
        let most = MOST_BLOCKS / count;
        let Some(frames) = counts(level.frames.max(1), most).last().copied() else { continue };
        let ways: &[bool] = if level.choice { &[false, true] } else { &[false] };
        all.extend(ways.iter().map(|again| Answer { frames, rows: Some(Tiles { count, again: *again }) }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back() {
        let level = Level { frames: 25, rows: 9, choice: true };
        let words: Vec<String> = answers(level).iter().map(ToString::to_string).collect();
        assert_eq!(words, ["1", "2", "4", "8", "16", "25.rows-4", "25.rows-4.again", "25.rows-8", "25.rows-8.again"]);
        for (word, answer) in words.iter().zip(answers(level)) {
            assert_eq!(word.parse(), Ok(answer));
        }
        assert_eq!("4.rows-x".parse::<Answer>(), Err(()));
    }

    #[test]
    fn blocks_are_bounded() {
        let level = Level { frames: 120, rows: 16, choice: false };
        let words: Vec<String> = answers(level).iter().map(ToString::to_string).collect();
        assert_eq!(words, ["1", "2", "4", "8", "16", "120.rows-4", "64.rows-8", "32.rows-16"]);
    }
}
