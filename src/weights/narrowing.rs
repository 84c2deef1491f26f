//! What a constant loses in a type of fewer bits.

use rayon::prelude::*;

use super::{DType, RandomSpec, WeightExpr, WeightOp, evaluate, evaluate_unrounded};
use crate::diag::Result;

/// Expressions of more multiplications are not computed to look at their values.
const MOST_WORK: u64 = 1 << 33;
/// Elements that one task looks at.
const RUN: usize = 1 << 16;

/// What becomes of the values of a constant in another type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Narrowing {
    /// A number becomes infinite.
    Infinite,
    /// All stay finite; the part of the whole that rounding takes away, relative L2.
    Loses(f64),
    /// The values are not at hand: parameters that are not bound, or too much work.
    Unknown,
}

/// What an f32 constant loses in a 16-bit float type. Seeded values are judged by their law.
///
/// # Errors
/// Those of [`evaluate`].
pub fn narrowing(expr: &WeightExpr, to: DType) -> Result<Narrowing> {
    if let WeightOp::Random { spec, .. } = expr.op() {
        return Ok(by_law(spec, to));
    }
    if !is_at_hand(expr) {
        return Ok(Narrowing::Unknown);
    }
    let values = evaluate(expr)?.to_f32();
    Ok(of_values(values.len(), |i| f64::from(values[i]), to))
}

/// Does a computed 16-bit constant lose no more by being rounded to its type than normal numbers do, in each channel? Channels are the
/// indices along `axis`. True for other types; false if the values are not at hand.
///
/// # Errors
/// Those of [`evaluate`].
pub fn products_stay_normal(expr: &WeightExpr, axis: usize) -> Result<bool> {
    // A step of the type, relative to the number: normal numbers are rounded by half of it at most.
    let step = match expr.dtype() {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => return Ok(true),
    };
    if !is_at_hand(expr) {
        return Ok(false);
    }
    let values = evaluate_unrounded(expr)?;
    let shape = expr.shape();
    let channels = shape.get(axis).map_or(1, |n| *n as usize);
    let inner: usize = shape.get(axis + 1..).unwrap_or_default().iter().map(|n| *n as usize).product();
    let each = values.len() / channels.max(1);
    let at = |channel: usize, i: usize| values[(i / inner * channels + channel) * inner + i % inner];
    let fits = |channel: usize| matches!(of_values(each, |i| at(channel, i), expr.dtype()), Narrowing::Loses(part) if part <= step);
    Ok((0..channels).into_par_iter().all(fits))
}

/// Can the values be computed here and now?
fn is_at_hand(expr: &WeightExpr) -> bool {
    expr.params().is_empty() && !holds_random(expr) && expr.work() <= MOST_WORK
}

fn holds_random(expr: &WeightExpr) -> bool {
    matches!(expr.op(), WeightOp::Random { .. }) || expr.operands().into_iter().any(holds_random)
}

fn by_law(spec: &RandomSpec, to: DType) -> Narrowing {
    let most = f64::from(spec.center.abs() + spec.bound.abs());
    of_values(1, |_| most, to)
}

fn of_values(count: usize, value: impl Fn(usize) -> f64 + Sync, to: DType) -> Narrowing {
    let run = |start: usize| {
        let (mut lost, mut whole, mut infinite) = (0.0, 0.0, false);
        for x in (start..count.min(start + RUN)).map(&value).filter(|x| x.is_finite()) {
            let y = to.rounded(x);
            infinite |= y.is_infinite();
            lost += (x - y) * (x - y);
            whole += x * x;
        }
        (lost, whole, infinite)
    };
    let starts: Vec<usize> = (0..count).step_by(RUN).collect();
    // Summed in order, so that the number of threads changes nothing.
    let runs: Vec<(f64, f64, bool)> = starts.into_par_iter().map(run).collect();
    let (lost, whole, infinite) = runs.into_iter().fold((0.0, 0.0, false), |a, b| (a.0 + b.0, a.1 + b.1, a.2 || b.2));
    match (infinite, whole > 0.0) {
        (true, _) => Narrowing::Infinite,
        (false, true) => Narrowing::Loses((lost / whole).sqrt()),
        (false, false) => Narrowing::Loses(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f32], to: DType, expect: Narrowing) {
        let expr = WeightExpr::literal_f32(&[values.len() as u64], values).expect("as many");
        assert_eq!(narrowing(&expr, to).expect("literal"), expect, "{values:?} as {to}");
    }

    #[test]
    fn infinite_lost_and_kept() {
        check(&[1.0, 70_000.0], DType::F16, Narrowing::Infinite);
        check(&[1.0, f32::INFINITY], DType::F16, Narrowing::Loses(0.0));
        check(&[70_000.0], DType::BF16, Narrowing::Loses(144.0 / 70_000.0));
        check(&[1e-8], DType::F16, Narrowing::Loses(1.0));
        check(&[0.0, 0.5], DType::F16, Narrowing::Loses(0.0));
        let open = WeightExpr::param("unet", "w", DType::F32, &[1]).expect("small");
        assert_eq!(narrowing(&open, DType::F16).expect("nothing is read"), Narrowing::Unknown);
    }

    #[test]
    fn one_channel_out_of_range_is_seen() {
        let values = WeightExpr::literal_f32(&[2, 2], &[1.0, 1e-8, 2.0, 1e-8]).expect("four").cast(DType::F16).expect("floats");
        assert!(products_stay_normal(&values, 0).expect("literal"));
        assert!(!products_stay_normal(&values, 1).expect("literal"));
        assert!(products_stay_normal(&WeightExpr::literal_f32(&[1], &[1e-30]).expect("one"), 0).expect("literal"), "f32 is not asked");
    }
}
