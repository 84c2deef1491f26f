//! `--vary`: the values that a parameter goes through, and the combinations of several.

use vidc::spec::Number;

/// Most combinations of one command: a search takes about a second.
pub(super) const MOST: usize = 400;

/// A parameter with the values that it takes in turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vary {
    /// The parameter.
    pub(super) name: String,
    /// Its values as the graph reads them; at least one.
    pub(super) values: Vec<String>,
}

/// Reads `NAME=a..b`, `NAME=a..b:step` or `NAME=a,b,c`. Both ends of a range belong to it.
pub(super) fn vary(text: &str) -> Result<Vary, String> {
    let Some((name, values)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err("NAME=a..b, NAME=a..b:step or NAME=a,b,c is wanted".into());
    };
    let values = match values.split_once("..") {
        Some(_) if values.contains(',') => return Err("write a range or a list, not both".into()),
        Some((from, rest)) => range(from, rest)?,
        None => list(values)?,
    };
    Ok(Vary { name: name.into(), values })
}

fn range(from: &str, rest: &str) -> Result<Vec<String>, String> {
    let whole = |text: &str| {
        let wanted = format!("a range is of whole numbers, and `{text}` is none; write others one by one, as a,b,c");
        text.trim().parse::<i64>().map_err(|_| wanted)
    };
    let (to, step) = rest.split_once(':').unwrap_or((rest, "1"));
    let (from, to, step) = (whole(from)?, whole(to)?, whole(step)?);
    if step < 1 {
        return Err(format!("a step is at least 1, not {step}"));
    }
    if from > to {
        return Err(format!("nothing lies in {from}..{to}; the smaller end comes first: {to}..{from}"));
    }
    let count = (i128::from(to) - i128::from(from)) / i128::from(step) + 1;
    if count > MOST as i128 {
        return Err(format!("these are {count} values, and at most {MOST} are searched; take a longer step: {from}..{to}:STEP"));
    }
    Ok((0..count).map(|i| (i128::from(from) + i * i128::from(step)).to_string()).collect())
}

fn list(text: &str) -> Result<Vec<String>, String> {
    let mut values: Vec<String> = Vec::new();
    let number = |text: &str| Number::parse(text).map(Number::as_f64).filter(|x| x.is_finite());
    for value in text.split(',').map(str::trim) {
        let Some(x) = number(value) else { return Err(format!("`{value}` is no number; a,b,c or a..b is wanted")) };
        if values.iter().any(|other| number(other) == Some(x)) {
            return Err(format!("{value} stands there twice"));
        }
        values.push(value.into());
    }
    Ok(values)
}

/// Parameters that change together, as rows of values: the sides of a picture are such.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// The parameters.
    pub(super) names: Vec<String>,
    /// Rows as wide as there are names.
    pub(super) rows: Vec<Vec<String>>,
}

impl From<&Vary> for Axis {
    fn from(vary: &Vary) -> Self {
        Self { names: vec![vary.name.clone()], rows: vary.values.iter().map(|v| vec![v.clone()]).collect() }
    }
}

/// What is varied where nobody says: these frames by these usual sizes, as far as a graph has such parameters and they are not set.
pub(super) fn usual(has: &dyn Fn(&str) -> bool) -> Vec<Axis> {
    const FRAMES: [&str; 3] = ["8", "14", "25"];
    const SIZES: [[&str; 2]; 3] = [["512", "320"], ["768", "448"], ["1024", "576"]];
    let owned = |row: &[&str]| row.iter().map(|v| (*v).to_owned()).collect::<Vec<String>>();
    let frames = Axis { names: owned(&["frames"]), rows: FRAMES.iter().map(|f| owned(&[f])).collect() };
    let sizes = Axis { names: owned(&["width", "height"]), rows: SIZES.iter().map(|s| owned(s)).collect() };
    [frames, sizes].into_iter().filter(|axis| axis.names.iter().all(|name| has(name))).collect()
}

/// One combination: the varied parameters with their values, in the order of the axes.
pub(super) type Cell = Vec<(String, String)>;

/// How many combinations there are.
pub(super) fn count(axes: &[Axis]) -> usize {
    axes.iter().fold(1, |product, axis| product.saturating_mul(axis.rows.len()))
}

/// Every combination; the last axis changes fastest.
pub(super) fn cells(axes: &[Axis]) -> Vec<Cell> {
    axes.iter().fold(vec![Cell::new()], |cells, axis| {
        let with =
            |cell: &Cell, row: &Vec<String>| cell.iter().cloned().chain(axis.names.iter().cloned().zip(row.iter().cloned())).collect();
        cells.iter().flat_map(|cell| axis.rows.iter().map(move |row| with(cell, row))).collect()
    })
}

/// How much a combination asks for: the product of its whole numbers from 1.
pub(super) fn work(cell: &Cell) -> u128 {
    let whole = |text: &str| Number::parse(text).and_then(Number::as_i64).and_then(|n| u128::try_from(n).ok()).filter(|n| *n > 0);
    cell.iter().filter_map(|(_, text)| whole(text)).fold(1, u128::saturating_mul)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_are_read() {
        let values = |text: &str| vary(text).unwrap().values.join(" ");
        assert_eq!(values("frames=2..4"), "2 3 4");
        assert_eq!(values("frames=8..25:6"), "8 14 20");
        assert_eq!(values("frames=5..5"), "5");
        assert_eq!(values("x=-1..1"), "-1 0 1");
        assert_eq!(values("frames=14, 8,25"), "14 8 25");
        assert_eq!(values("noise=0.02"), "0.02");
        assert_eq!(values(&format!("x={}..{}", i64::MAX - 1, i64::MAX)).split(' ').count(), 2);
        assert_eq!(vary("frames=7").unwrap().name, "frames");
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, why) in [
            ("frames", "is wanted"),
            ("=1..2", "is wanted"),
            ("frames=", "is no number"),
            ("frames=8,,9", "is no number"),
            ("frames=many", "`many` is no number"),
            ("frames=.nan", "is no number"),
            ("frames=4..2", "the smaller end comes first: 2..4"),
            ("frames=2..4:0", "a step is at least 1, not 0"),
            ("frames=2..4:-1", "a step is at least 1, not -1"),
            ("frames=2..", "whole numbers"),
            ("frames=0.5..1", "`0.5` is none"),
            ("frames=1..4,9", "not both"),
            ("frames=8,8.0", "8.0 stands there twice"),
            ("frames=1..500", "these are 500 values"),
            ("frames=-9223372036854775808..9223372036854775807", "these are 18446744073709551616 values"),
        ] {
            let said = vary(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn combinations_go_through_all_axes() {
        let axes = [Axis::from(&vary("frames=2..3").unwrap()), usual(&|name| name != "frames").remove(0)];
        let cells = cells(&axes);
        assert_eq!((cells.len(), count(&axes)), (6, 6));
        let text = |cell: &Cell| cell.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&cells[1]), "frames=2 width=768 height=448");
        assert_eq!(work(&cells[5]), 3 * 1024 * 576);
        assert_eq!(work(&vec![("noise".into(), "0.5".into()), ("seed".into(), "0".into())]), 1);
        assert_eq!(super::cells(&[]), [Cell::new()]);
    }

    #[test]
    fn a_graph_without_sizes_varies_its_frames() {
        let names = |has: &dyn Fn(&str) -> bool| usual(has).into_iter().flat_map(|axis| axis.names).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&|name| name == "frames" || name == "width"), "frames");
        assert_eq!(names(&|_| true), "frames width height");
        assert_eq!(names(&|_| false), "");
    }
}
