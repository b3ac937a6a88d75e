//! Percentiles of latencies.
//!
//! Owns nothing but arithmetic.

use std::time::Duration;

use serde::Serialize;

/// A distribution in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub mean_us: f64,
    pub samples: usize,
}

impl Latency {
    /// Sorts the samples and reads the percentiles (nearest rank); all zero if there are none.
    pub fn of(samples: &mut [Duration]) -> Self {
        samples.sort_unstable();
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        let at = |share: f64| {
            let rank = (share * samples.len() as f64).ceil() as usize;
            samples.get(rank.saturating_sub(1)).copied().map_or(0.0, us)
        };
        let mean_us = samples.iter().copied().map(us).sum::<f64>() / samples.len().max(1) as f64;
        Self { p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), mean_us, samples: samples.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut samples: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(&mut samples);
        assert_eq!((latency.p50_us, latency.p90_us, latency.p99_us), (50.0, 90.0, 99.0));
        assert_eq!(latency.mean_us, 50.5);
    }

    #[test]
    fn no_samples_are_no_panic() {
        assert_eq!(Latency::of(&mut []).p99_us, 0.0);
    }
}
