//! What the benchmarks share: settings with which all of them take less than a minute, and costs as multiples of what
//! cannot be avoided.

use std::fmt;
use std::time::{Duration, Instant};

use criterion::Criterion;

/// Criterion, set so that one benchmark takes about a second.
pub fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .without_plots()
        .configure_from_args()
}

/// What something costs beside the bare cost of what it cannot do without: the fastest of several runs in turns, as
/// whatever else the machine does makes both slower and neither faster.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// Time of the whole.
    pub whole: Duration,
    /// Time of what it cannot do without.
    pub bare: Duration,
}

impl Comparison {
    /// Runs both `rounds` times, at least once.
    pub fn of<A, B>(rounds: usize, mut whole: impl FnMut() -> A, mut bare: impl FnMut() -> B) -> Self {
        let mut fastest = Self {
            whole: time(&mut whole),
            bare: time(&mut bare),
        };
        for _ in 1..rounds {
            fastest.whole = fastest.whole.min(time(&mut whole));
            fastest.bare = fastest.bare.min(time(&mut bare));
        }
        fastest
    }

    /// How many times the bare cost the whole costs.
    pub fn ratio(&self) -> f64 {
        self.whole.as_secs_f64() / self.bare.as_secs_f64()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2?}, {:.2} times the bare {:.2?}",
            self.whole,
            self.ratio(),
            self.bare
        )
    }
}

fn time<T>(run: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    let result = std::hint::black_box(run());
    let taken = start.elapsed();
    drop(result);
    taken
}
