//! A dozen points that say what a front looks like.

use super::search::Plan;

/// Most points that are worth showing.
pub(super) const MOST: usize = 12;

/// At most [`MOST`] plans of a front, its ends among them: again and again the plan that lies farthest below the straight
/// line between its chosen neighbours, which is where the front bends most.
pub(super) fn pick(front: &[Plan]) -> Vec<&Plan> {
    if front.len() <= MOST {
        return front.iter().collect();
    }
    let mut chosen = vec![0, front.len() - 1];
    while chosen.len() < MOST {
        let Some((at, _)) = chosen.windows(2).filter_map(|w| farthest(front, w[0], w[1])).max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        chosen.push(at);
        chosen.sort_unstable();
    }
    chosen.into_iter().map(|i| &front[i]).collect()
}

/// The plan strictly between two others with the largest distance below their line, in shares of the whole front.
fn farthest(front: &[Plan], from: usize, to: usize) -> Option<(usize, f64)> {
    let (first, last) = (&front[0], &front[front.len() - 1]);
    let x = |p: &Plan| (p.peak - first.peak) as f64 / (last.peak - first.peak).max(1) as f64;
    let y = |p: &Plan| (p.time - last.time) as f64 / (first.time - last.time).max(1) as f64;
    let (a, b) = (&front[from], &front[to]);
    let below = |p: &Plan| {
        let share = (x(p) - x(a)) / (x(b) - x(a)).max(f64::MIN_POSITIVE);
        y(a) + share * (y(b) - y(a)) - y(p)
    };
    (from + 1..to).map(|i| (i, below(&front[i]))).max_by(|a, b| a.1.total_cmp(&b.1))
}
