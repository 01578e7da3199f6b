//! Percentiles and medians.

/// What one contender's blocks came to. Times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The median of each block, in the order they ran.
    medians: Vec<f64>,
    /// All samples of all blocks.
    pooled: Vec<u32>,
}

impl Series {
    /// Takes a block's samples in, and empties `block`.
    pub fn add(&mut self, block: &mut Vec<u32>) {
        if block.is_empty() {
            return;
        }
        self.pooled.extend_from_slice(block);
        block.sort_unstable();
        self.medians.push(percentile(block, 50.0));
        block.clear();
    }

    /// The median of the blocks' medians, microseconds.
    pub fn p50_us(&self) -> Option<f64> {
        median(self.medians.clone()).map(|ns| ns / 1e3)
    }

    /// The 99th percentile of all samples, microseconds.
    pub fn p99_us(&self) -> Option<f64> {
        let mut all = self.pooled.clone();
        all.sort_unstable();
        (!all.is_empty()).then(|| percentile(&all, 99.0) / 1e3)
    }

    /// The median, over the rounds, of this contender's block to the other's block beside it.
    pub fn ratio(&self, other: &Series) -> Option<f64> {
        let pairs = self.medians.iter().zip(&other.medians);
        median(pairs.filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// The value that `percent` of the sorted samples do not exceed. 0 of nothing.
fn percentile(sorted: &[u32], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(0.0, f64::from)
}

/// The middle one, of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
