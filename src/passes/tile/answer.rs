//! The answers of a level's knob: into how many pieces of frames its spatial runs are cut, into how many tiles of rows each of these, and
//! into how many of rows its temporal runs.

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

/// Tiles of rows on offer inside of a piece of frames. Few: more of them read more of their neighbours, and each is a whole body of nodes.
const HALOS: [i64; 2] = [4, 8];
/// At most this many such bodies, frames times rows: a decoder of 8 frames in 64 of them is 20,000 nodes, and takes 3 s to compile.
const MOST_BODIES: i64 = 64;

/// An answer: `4`, `4.halo-8`, `4.rows-8`, `4.rows-8.again`, `4.rows-8.again.halo-8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Pieces of frames in spatial runs.
    pub(super) frames: i64,
    /// Tiles of rows in temporal runs, if they are cut.
    pub(super) rows: Option<Tiles>,
    /// Tiles of rows inside of a piece of frames, if they are cut; they read a halo.
    pub(super) halo: Option<Tiles>,
}

impl Answer {
    /// Nothing is cut.
    pub(super) const WHOLE: Self = Self { frames: 1, rows: None, halo: None };
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.frames)?;
        for (word, tiles) in [("rows", self.rows), ("halo", self.halo)] {
            let Some(Tiles { count, again }) = tiles else { continue };
            write!(f, ".{word}-{count}{}", if again { ".again" } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Answer {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (word, halo) = tiles(word, ".halo-")?;
        let (word, rows) = tiles(word, ".rows-")?;
        Ok(Self { frames: count(word)?, rows, halo })
    }
}

/// What stands in front of a word, and the tiles that it speaks of.
fn tiles<'w>(text: &'w str, word: &str) -> Result<(&'w str, Option<Tiles>), ()> {
    let Some((front, tiles)) = text.split_once(word) else { return Ok((text, None)) };
    let (number, again) = tiles.strip_suffix(".again").map_or((tiles, false), |number| (number, true));
    Ok((front, Some(Tiles { count: count(number)?, again })))
}

fn count(text: &str) -> Result<i64, ()> {
    text.parse().map_err(|_| ())
}

/// What a level can be cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Frames of its spatial runs; 0 if it has none.
    pub(super) frames: i64,
    /// Its spatial runs, as far as they are worth cutting over rows too.
    pub(super) spatial: Rows,
    /// Its temporal runs.
    pub(super) temporal: Rows,
}

/// Runs that can be cut over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// The rows of the longest; 0 if there are none.
    pub(super) extent: i64,
    /// May what norms of them read be kept or computed again?
    pub(super) choice: bool,
}

impl Rows {
    /// Takes in another run.
    pub(super) fn add(&mut self, extent: i64, choice: bool) {
        self.extent = self.extent.max(extent);
        self.choice |= choice;
    }

    fn ways(self, count: i64) -> impl Iterator<Item = Tiles> {
        let most = if count > self.extent { 0 } else { 1 + usize::from(self.choice) };
        [false, true].into_iter().take(most).map(move |again| Tiles { count, again })
    }
}

/// The answers for a level, the plain one first. Where rows are cut, spatial runs are cut as finely as the blocks between the two allow:
/// rows are cut to save memory, and whole images would take it again. For the same reason, where there are temporal
/// runs, rows with a halo are offered only with the leanest way of cutting those, into as many tiles.
pub(super) fn answers(level: Level) -> Vec<Answer> {
    let frames = |most| counts(level.frames.max(1), most);
    let finest = |count, most| frames(most / count).last().copied().unwrap_or(1);
    let mut all: Vec<Answer> = frames(MOST).into_iter().map(|frames| Answer { frames, ..Answer::WHOLE }).collect();
    for count in ROWS {
        let cut: Vec<Answer> =
            level.temporal.ways(count).map(|t| Answer { frames: finest(count, MOST_BLOCKS), rows: Some(t), ..Answer::WHOLE }).collect();
        let halo = level.spatial.ways(count).last().filter(|_| HALOS.contains(&count) && finest(count, MOST_BLOCKS) * count <= MOST_BODIES);
        let leanest = cut.last().zip(halo).map(|(answer, halo)| Answer { halo: Some(halo), ..*answer });
        all.extend(cut.into_iter().chain(leanest));
    }
    if all.iter().all(|answer| answer.rows.is_none()) {
        let halos = HALOS.into_iter().flat_map(|count| level.spatial.ways(count));
        all.extend(halos.map(|halo| Answer { frames: finest(halo.count, MOST_BODIES), halo: Some(halo), ..Answer::WHOLE }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: i64, spatial: (i64, bool), temporal: (i64, bool), words: &[&str]) {
        let rows = |(extent, choice)| Rows { extent, choice };
        let all = answers(Level { frames, spatial: rows(spatial), temporal: rows(temporal) });
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), words);
        words.iter().zip(all).for_each(|(word, answer)| assert_eq!(word.parse(), Ok(answer)));
    }

    #[test]
    fn answers_read_back() {
        let none = (0, false);
        check(25, none, (9, true), &["1", "2", "4", "8", "16", "25.rows-4", "25.rows-4.again", "25.rows-8", "25.rows-8.again"]);
        check(3, (9, true), none, &["1", "2", "3", "3.halo-4", "3.halo-4.again", "3.halo-8", "3.halo-8.again"]);
        check(2, (7, false), none, &["1", "2", "2.halo-4"]);
        check(2, (9, true), (4, true), &["1", "2", "2.rows-4", "2.rows-4.again", "2.rows-4.again.halo-4.again"]);
        let words = ["1", "2", "2.rows-4", "2.rows-4.halo-4", "2.rows-8", "2.rows-8.halo-8", "2.rows-16"];
        check(2, (16, false), (16, false), &words);
        assert_eq!("4.rows-x".parse::<Answer>(), Err(()));
        assert_eq!("4.halo-8.rows-4".parse::<Answer>(), Err(()));
    }

    #[test]
    fn blocks_are_bounded() {
        check(120, (0, false), (16, false), &["1", "2", "4", "8", "16", "120.rows-4", "64.rows-8", "32.rows-16"]);
        check(1, (9, true), (0, false), &["1", "1.halo-4", "1.halo-4.again", "1.halo-8", "1.halo-8.again"]);
        check(25, (16, false), (4, false), &["1", "2", "4", "8", "16", "25.rows-4"]);
        check(120, (16, false), (0, false), &["1", "2", "4", "8", "16", "16.halo-4", "8.halo-8"]);
    }
}
