//! What a row has to reach: the limits that this project set itself, beside what was measured.

use super::report::Row;
use std::fmt;

/// A limit on one number of a row. Inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    AtMost(Of, f64),
    AtLeast(Of, f64),
}

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Ratio,
    RatioP99,
    P50Us,
    P99Us,
    PerS,
    Value,
}

impl Wanted {
    /// Whether the row reaches it. `None` where the number was not measured.
    pub fn is_met(self, row: &Row) -> Option<bool> {
        match self {
            Wanted::AtMost(of, limit) => of.in_row(row).map(|seen| seen <= limit),
            Wanted::AtLeast(of, limit) => of.in_row(row).map(|seen| seen >= limit),
        }
    }
}

impl Of {
    fn in_row(self, row: &Row) -> Option<f64> {
        match self {
            Of::Ratio => row.ratio,
            Of::RatioP99 => row.ratio_p99(),
            Of::P50Us => row.p50_us,
            Of::P99Us => row.p99_us,
            Of::PerS => row.per_s,
            Of::Value => row.value,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, sign, limit) = match *self {
            Wanted::AtMost(of, limit) => (of, "≤", limit),
            Wanted::AtLeast(of, limit) => (of, "≥", limit),
        };
        match of {
            Of::Ratio => write!(f, "ratio {sign} {limit}"),
            Of::RatioP99 => write!(f, "ratio p99 {sign} {limit}"),
            Of::P50Us => write!(f, "p50 {sign} {limit} µs"),
            Of::P99Us => write!(f, "p99 {sign} {limit} µs"),
            Of::PerS => write!(f, "{sign} {limit} per s"),
            Of::Value => write!(f, "{sign} {limit}"),
        }
    }
}
