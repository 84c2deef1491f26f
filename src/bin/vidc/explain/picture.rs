//! Device memory over a run, by cause, as a picture.

use plotters::prelude::*;

use super::memory::causes;
use vidc::cost::pipeline::PeakParts;
use vidc::cost::timeline::{Span, Timeline};
use vidc::diag::Diagnostic;
use vidc::units::Bytes;

/// Width and height, pixels.
const SIZE: (u32, u32) = (1200, 640);
/// How many points the time is cut into: about one a pixel.
const POINTS: usize = 1000;
/// Least points of a call, so that short ones are seen.
const LEAST: usize = 4;
const GIB: f64 = (1u64 << 30) as f64;

/// The layers of a picture, the bottom first: a colour each that people tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(127, 127, 127),
    RGBColor(31, 119, 180),
    RGBColor(158, 202, 225),
    RGBColor(199, 199, 199),
    RGBColor(44, 160, 44),
    RGBColor(152, 223, 138),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
];

/// A point of the picture: when, and how much of each cause, bytes.
struct Point {
    at: f64,
    bytes: [u64; 8],
}

/// The picture as SVG. One execution of what a loop repeats stands for all of them.
pub(super) fn svg(title: &str, timeline: &Timeline) -> Result<String, Diagnostic> {
    let mut out = String::new();
    draw(title, timeline, &mut out).map_err(|e| Diagnostic::new("internal/bug", format!("the picture cannot be drawn: {e}")))?;
    Ok(out)
}

fn draw(title: &str, timeline: &Timeline, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let total = timeline.total().secs().max(f64::MIN_POSITIVE);
    let points = points(timeline, total);
    let sum = |p: &Point| p.bytes.iter().sum::<u64>() as f64 / GIB;
    let most = points.iter().map(sum).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..total, 0.0..most * 1.1)?;
    chart.configure_mesh().disable_x_mesh().x_desc("seconds, predicted").y_desc("GiB").draw()?;
    // From the top, so that each layer covers what of the one above reaches below it.
    for layer in (0..COLOURS.len()).rev() {
        let height = |p: &Point| (p.at, p.bytes[..=layer].iter().sum::<u64>() as f64 / GIB);
        if points.iter().all(|p| p.bytes[layer] == 0) {
            continue;
        }
        let colour = COLOURS[layer];
        let area = AreaSeries::new(points.iter().map(height), 0.0, colour.filled());
        let name = causes(&empty())[layer].0;
        chart.draw_series(area)?.label(name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    let mut start = 0.0;
    for span in &timeline.spans {
        let wide = (span.once * span.executions).secs();
        if wide > total * 0.04 {
            let times = if span.executions > 1 { format!(" ×{}", span.executions) } else { String::new() };
            let text = Text::new(format!("{}{times}", span.session), (start + total * 0.004, most * 1.06), ("sans-serif", 14));
            chart.plotting_area().draw(&text)?;
        }
        start += wide;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

fn points(timeline: &Timeline, total: f64) -> Vec<Point> {
    let mut out = Vec::new();
    let mut start = 0.0;
    for span in &timeline.spans {
        let wide = (span.once * span.executions).secs();
        let count = ((wide / total * POINTS as f64) as usize).max(LEAST);
        let column = |i: usize| {
            let (from, to) = (i as f64 / count as f64, (i + 1) as f64 / count as f64);
            Point { at: start + wide * from, bytes: widest_between(span, from, to) }
        };
        let mut columns: Vec<Point> = (0..count).map(column).collect();
        if let Some(last) = columns.last() {
            columns.push(Point { at: start + wide, bytes: last.bytes });
        }
        out.extend(columns);
        start += wide;
    }
    out
}

/// The widest step of one execution between two shares of its time.
fn widest_between(span: &Span, from: f64, to: f64) -> [u64; 8] {
    let once = span.once.secs();
    let mut at = 0.0;
    let mut most = (Bytes(0), Bytes(0));
    for step in &span.steps {
        let end = at + step.time.secs();
        if end >= once * from && at <= once * to && step.live + step.scratch > most.0 + most.1 {
            most = (step.live, step.scratch);
        }
        at = end;
    }
    let parts = PeakParts { activations: most.0, scratch: most.1, ..span.kept.clone() };
    causes(&parts).map(|(_, bytes)| bytes.0)
}

/// Nothing of everything: for the names.
fn empty() -> PeakParts {
    let none = Bytes(0);
    PeakParts {
        during: String::new(),
        process: none,
        weights: none,
        packed: none,
        nodes: none,
        bound: none,
        beside: none,
        activations: none,
        scratch: none,
    }
}
