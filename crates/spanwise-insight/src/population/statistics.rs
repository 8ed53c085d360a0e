//! Order statistics and tests.

/// Complementary error function, to about seven digits of each value: Numerical Recipes' Chebyshev fit.
pub fn ln_erfc(z: f64) -> f64 {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = z.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    t.ln() - z * z + FIT.iter().rev().fold(0.0, |sum, factor| sum * t + factor)
}

/// Logarithm of the p-value of a statistic that is distributed as chi-squared with one degree of freedom.
pub fn ln_p_of_chi_squared(statistic: f64) -> f64 {
    ln_erfc((statistic.max(0.0) / 2.0).sqrt()).min(0.0)
}

/// Two samples, and how many of each have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub with: [usize; 2],
    pub of: [usize; 2],
}

impl Table {
    fn cells(&self) -> [[f64; 2]; 2] {
        [0, 1].map(|sample| [self.with[sample] as f64, self.of[sample].saturating_sub(self.with[sample]) as f64])
    }

    /// Logarithm of the p-value that both samples have it as often: G-test, Fisher's exact one where counts are small.
    pub fn ln_p(&self) -> f64 {
        let cells = self.cells();
        let total: f64 = cells.iter().flatten().sum();
        let columns = [cells[0][0] + cells[1][0], cells[0][1] + cells[1][1]];
        let expected = |sample: usize, column: usize| self.of[sample] as f64 * columns[column] / total.max(1.0);
        let least = (0..4).map(|cell| expected(cell / 2, cell % 2)).fold(f64::INFINITY, f64::min);
        if least < 5.0 {
            return self.ln_fisher();
        }
        let term = |sample: usize, column: usize| match cells[sample][column] {
            0.0 => 0.0,
            seen => seen * (seen / expected(sample, column)).ln(),
        };
        let g: f64 = 2.0 * (0..4).map(|cell| term(cell / 2, cell % 2)).sum::<f64>();
        ln_p_of_chi_squared(g)
    }

    /// Two-sided: tables at most as likely as this one.
    fn ln_fisher(&self) -> f64 {
        let [a, b] = self.of;
        let with = self.with[0] + self.with[1];
        let ln = |n: usize, k: usize| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
        let ln_of = |first: usize| ln(a, first) + ln(b, with - first) - ln(a + b, with);
        let own = ln_of(self.with[0].min(a));
        let (low, high) = (with.saturating_sub(b), with.min(a));
        let likelihoods = (low..=high).map(ln_of).filter(|ln| *ln <= own + 1e-7);
        // Relative to the largest, so that nothing underflows.
        let sum: f64 = likelihoods.map(|ln| (ln - own).exp()).sum();
        (own + sum.ln()).min(0.0)
    }

    /// Difference of the shares and its 95 % interval: Agresti and Caffo.
    pub fn difference(&self) -> (f64, [f64; 2]) {
        let share = |sample: usize| self.with[sample] as f64 / self.of[sample].max(1) as f64;
        let adjusted = |sample: usize| {
            let n = self.of[sample] as f64 + 2.0;
            let p = (self.with[sample] as f64 + 1.0) / n;
            (p, p * (1.0 - p) / n)
        };
        let ((p0, v0), (p1, v1)) = (adjusted(0), adjusted(1));
        let half = 1.96 * (v0 + v1).sqrt();
        (share(0) - share(1), [(p0 - p1 - half).max(-1.0), (p0 - p1 + half).min(1.0)])
    }
}

/// Cochran, Mantel and Haenszel: logarithm of the p-value that the samples agree within each stratum.
pub fn ln_p_stratified(strata: &[Table]) -> f64 {
    let (mut difference, mut variance) = (0.0, 0.0);
    for table in strata {
        let [[a, _], _] = table.cells();
        let total = (table.of[0] + table.of[1]) as f64;
        if total < 2.0 {
            continue;
        }
        let with = (table.with[0] + table.with[1]) as f64;
        let (n0, n1) = (table.of[0] as f64, table.of[1] as f64);
        difference += a - n0 * with / total;
        variance += n0 * n1 * with * (total - with) / (total * total * (total - 1.0));
    }
    if variance <= 0.0 { 0.0 } else { ln_p_of_chi_squared(difference * difference / variance) }
}

/// Mann and Whitney: logarithm of the p-value that neither sample has the larger values, and the probability that a
/// value of the first is larger than one of the second.
pub fn ln_p_of_ranks(first: &[f64], second: &[f64]) -> (f64, f64) {
    let mut all: Vec<(f64, bool)> =
        first.iter().map(|value| (*value, true)).chain(second.iter().map(|value| (*value, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let tied = all[at..].iter().take_while(|other| other.0 == all[at].0).count();
        let rank = at as f64 + (tied as f64 + 1.0) / 2.0;
        rank_sum += rank * all[at..at + tied].iter().filter(|(_, is_first)| *is_first).count() as f64;
        ties += (tied as f64).powi(3) - tied as f64;
        at += tied;
    }
    let (n0, n1) = (first.len() as f64, second.len() as f64);
    let n = n0 + n1;
    let u = rank_sum - n0 * (n0 + 1.0) / 2.0;
    let variance = n0 * n1 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)).max(1.0));
    if n0 * n1 == 0.0 || variance <= 0.0 {
        return (0.0, 0.5);
    }
    let z = (u - n0 * n1 / 2.0) / variance.sqrt();
    (ln_p_of_chi_squared(z * z), u / (n0 * n1))
}

/// Benjamini and Hochberg: for each p-value the share of false discoveries when all up to it are believed. In and out
/// as logarithms.
pub fn ln_q_values(ln_p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ln_p.len()).collect();
    order.sort_by(|a, b| ln_p[*b].total_cmp(&ln_p[*a]));
    let count = ln_p.len() as f64;
    let (mut least, mut q) = (0.0f64, vec![0.0; ln_p.len()]);
    for (from_the_top, place) in order.into_iter().enumerate() {
        let rank = count - from_the_top as f64;
        least = least.min(ln_p[place] + (count / rank).ln());
        q[place] = least;
    }
    q
}

/// Of sorted values; 0 when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}

/// Of values with weights: the least value up to which lies at least this share of all weight.
pub fn weighted_quantile(mut values: Vec<(f64, f64)>, q: f64) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (value, weight) in &values {
        below += weight;
        // What lies half within and half without belongs to the upper half, as of an even number without weights.
        if below > q * total {
            return *value;
        }
    }
    values.last().map_or(0.0, |(value, _)| *value)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Probability of at least `successes` of `trials` when each has probability `p`.
pub fn binomial_tail(successes: usize, trials: usize, p: f64) -> f64 {
    if successes == 0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    let p = p.min(1.0 - 1e-12);
    let log_choose = |k: usize| ln_factorial(trials) - ln_factorial(k) - ln_factorial(trials - k);
    let term = |k: usize| (log_choose(k) + k as f64 * p.ln() + (trials - k) as f64 * (1.0 - p).ln()).exp();
    (successes..=trials).map(term).sum::<f64>().min(1.0)
}

fn ln_factorial(n: usize) -> f64 {
    if n < 32 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    // Stirling's series.
    let n = n as f64;
    n * n.ln() - n + 0.5 * (2.0 * std::f64::consts::PI * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

/// Benjamini and Hochberg: how large a p-value may be for the share of false discoveries to stay below `rate`.
pub fn discovery_bound(p_values: &[f64], rate: f64) -> f64 {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let passing = sorted.iter().enumerate().rev().find(|(rank, p)| **p <= rate * (*rank as f64 + 1.0) / count);
    passing.map_or(-1.0, |(_, p)| *p)
}

/// Spearman's rank correlation; 0 when a side is constant.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |pick: fn(&(f64, f64)) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| pick(&pairs[*a]).total_cmp(&pick(&pairs[*b])));
        let mut ranks = vec![0.0; pairs.len()];
        let mut at = 0;
        while at < order.len() {
            let value = pick(&pairs[order[at]]);
            let tied = order[at..].iter().take_while(|place| pick(&pairs[**place]) == value).count();
            for place in &order[at..at + tied] {
                ranks[*place] = at as f64 + (tied - 1) as f64 / 2.0;
            }
            at += tied;
        }
        ranks
    };
    let (x, y) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let mean = (pairs.len().max(1) - 1) as f64 / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (sum(&x, &x) * sum(&y, &y)).sqrt();
    if spread == 0.0 { 0.0 } else { sum(&x, &y) / spread }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_and_ranks_are_those_of_the_books() {
        assert!((binomial_tail(5, 10, 0.5) - 0.623_046_875).abs() < 1e-9);
        assert!((binomial_tail(8, 10, 0.1) - 3.736e-7).abs() < 1e-9);
        assert!((binomial_tail(60, 100, 0.5) - 0.028_444).abs() < 1e-5);
        assert_eq!(binomial_tail(0, 10, 0.3), 1.0);
        assert!((rank_correlation(&[(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)]) - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&[(1.0, 9.0), (2.0, 4.0), (3.0, 2.0)]) + 1.0).abs() < 1e-12);
        assert_eq!(rank_correlation(&[(1.0, 2.0), (2.0, 2.0)]), 0.0);
        assert_eq!(discovery_bound(&[0.001, 0.02, 0.5], 0.05), 0.02);
        assert_eq!(discovery_bound(&[0.5, 0.9], 0.05), -1.0);
    }

    #[test]
    fn two_samples_are_compared_as_the_books_do() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        // Fisher's tea: 3 of 4 against 1 of 4.
        close(Table { with: [3, 1], of: [4, 4] }.ln_p().exp(), 0.485_714);
        close(Table { with: [1, 11], of: [10, 14] }.ln_fisher().exp(), 0.002_759);
        // G of [[30, 70], [10, 90]] is 13.0: p = 0.000355 (scipy: 12.99, 0.00031).
        let table = Table { with: [30, 10], of: [100, 100] };
        close(table.ln_p().exp(), 0.000_335);
        let (difference, [low, high]) = table.difference();
        close(difference, 0.2);
        assert!((0.05..0.12).contains(&low) && (0.28..0.32).contains(&high), "{low} {high}");
        close(ln_p_of_chi_squared(3.841_459).exp(), 0.05);
        assert!(ln_p_of_chi_squared(5_000.0) < -2_000.0, "no underflow");
        // scipy.stats.mannwhitneyu([1..5], [4..9], method='asymptotic', use_continuity=False).
        let (ln_p, larger) = ln_p_of_ranks(&[1.0, 2.0, 3.0, 4.0, 5.0], &[4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        close(larger, 2.0 / 30.0);
        assert!((0.015..0.02).contains(&ln_p.exp()), "{}", ln_p.exp());
        // What a third thing explains is no difference within its strata.
        let strata = [Table { with: [80, 8], of: [100, 10] }, Table { with: [1, 10], of: [10, 100] }];
        assert!(ln_p_stratified(&strata) > -0.5);
        let q: Vec<f64> = ln_q_values(&[0.01f64.ln(), 0.04f64.ln(), 0.03f64.ln()]).iter().map(|q| q.exp()).collect();
        close(q[0], 0.03);
        close(q[1], 0.04);
        close(q[2], 0.04);
    }
}
