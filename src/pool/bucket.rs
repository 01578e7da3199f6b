//! A token bucket: so many at once, then one each so often.

/// Allows a burst of `burst`, and one more every `gap_ns`.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    burst: u64,
    gap_ns: u64,
    /// When it was, or will be, full. Taking a token moves this by one gap; nothing else is kept.
    full_at: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(burst: u64, gap_ns: u64) -> Bucket {
        debug_assert!(burst > 0 && gap_ns > 0);
        Bucket { burst, gap_ns, full_at: 0 }
    }

    /// Takes a token if there is one.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let there = self.next_at() <= now;
        if there {
            self.full_at = self.full_at.max(now).saturating_add(self.gap_ns);
        }
        there
    }

    /// From when on a token can be taken.
    pub(super) fn next_at(&self) -> u64 {
        self.full_at.saturating_sub((self.burst - 1).saturating_mul(self.gap_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_gap() {
        let mut bucket = Bucket::new(3, 10);
        let taken = |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, 1000), 3);
        assert_eq!(bucket.next_at(), 1010);
        assert_eq!(taken(&mut bucket, 1009), 0);
        assert_eq!(taken(&mut bucket, 1010), 1);
        assert_eq!(taken(&mut bucket, 1025), 1);
        assert_eq!(taken(&mut bucket, 9000), 3);
    }
}
