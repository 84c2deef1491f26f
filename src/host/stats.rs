//! Statistics that merge: a normalisation over a dimension that is processed in chunks needs mean and variance of the whole.

/// Count, mean and sum of squared deviations of a set of numbers.
///
/// Two sets merge by the formula of Chan, Golub and `LeVeque` ("Updating formulae and a pairwise algorithm for computing sample
/// variances", 1979), in f64, which loses nothing that f32 data could show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many numbers.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The sum of (x - mean)^2.
    pub m2: f64,
}

impl Moments {
    /// Of `values`, in two sweeps: the mean first, so that a large mean does not eat a small variance.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a f32, IntoIter: Clone>) -> Self {
        let values = values.into_iter();
        let (count, sum) = values.clone().fold((0_u64, 0.0), |(n, sum), v| (n + 1, sum + f64::from(*v)));
        if count == 0 {
            return Self::default();
        }
        let mean = sum / count as f64;
        let m2 = values.map(|v| (f64::from(*v) - mean) * (f64::from(*v) - mean)).sum();
        Self { count, mean, m2 }
    }

    /// Of both sets together. The empty set is neutral.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0 {
            return Self::default();
        }
        let share = other.count as f64 / count as f64;
        let delta = other.mean - self.mean;
        let mean = self.mean + delta * share;
        let m2 = self.m2 + other.m2 + delta * delta * self.count as f64 * share;
        Self { count, mean, m2 }
    }

    /// The population variance (what normalisation layers use); 0 of an empty set.
    pub fn variance(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.m2 / self.count as f64 }
    }

    /// 1 / sqrt(variance + epsilon).
    pub fn inverse_deviation(&self, epsilon: f64) -> f64 {
        1.0 / libm::sqrt(self.variance() + epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(got: Moments, want: Moments) {
        assert_eq!(got.count, want.count);
        assert!((got.mean - want.mean).abs() <= 1e-13 * want.mean.abs().max(1.0), "{got:?} {want:?}");
        assert!((got.m2 - want.m2).abs() <= 1e-11 * want.m2.abs().max(1.0), "{got:?} {want:?}");
    }

    #[test]
    fn known_numbers() {
        check(Moments::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), Moments { count: 8, mean: 5.0, m2: 32.0 });
        assert!((Moments::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).variance() - 4.0).abs() < 1e-15);
        assert!((Moments::of(&[1.0, 3.0]).inverse_deviation(3.0) - 0.5).abs() < 1e-15);
    }

    #[test]
    fn any_split_merges_to_the_whole() {
        let values: Vec<f32> = (0..101).map(|i| 1000.0 + (i * 37 % 101) as f32 * 0.01).collect();
        let whole = Moments::of(&values);
        for split in [0, 1, 50, 100, 101] {
            let (a, b) = values.split_at(split);
            check(Moments::of(a).merge(Moments::of(b)), whole);
        }
        check(values.chunks(7).map(Moments::of).fold(Moments::default(), Moments::merge), whole);
    }

    #[test]
    fn nothing_is_neutral() {
        assert_eq!(Moments::default().merge(Moments::default()), Moments::of(&[]));
        assert!(Moments::of(&[]).variance().abs() < f64::EPSILON);
    }
}
