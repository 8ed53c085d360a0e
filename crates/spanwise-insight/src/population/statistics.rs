//! Order statistics and tests.

/// Of sorted values; 0 when there are none.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
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
}
