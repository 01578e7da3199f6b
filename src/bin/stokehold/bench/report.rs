//! Rows of results: a JSON object a line for programs, a table for people.

use super::place::Placement;
use super::stats::Series;
use super::wanted::Wanted;
use std::fmt::Write as _;
use std::io::Write as _;
use stokehold::Mode;

/// One row. What does not apply is `None`, and `null` in JSON.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub bench: &'static str,
    pub case: String,
    pub wait: Option<Mode>,
    pub placement: Option<Placement>,
    pub bytes: Option<u64>,
    pub threads: Option<u64>,
    pub touch: bool,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub per_s: Option<f64>,
    pub baseline: Option<String>,
    pub baseline_p50_us: Option<f64>,
    pub baseline_p99_us: Option<f64>,
    pub baseline_per_s: Option<f64>,
    pub ratio: Option<f64>,
    /// What is neither a time nor a rate, in the unit that is named beside it.
    pub value: Option<f64>,
    pub unit: &'static str,
    /// What this row has to reach.
    pub wanted: Vec<Wanted>,
}

impl Row {
    /// This row with our times, beside a baseline's.
    pub fn beside(self, ours: &Series, name: &str, theirs: &Series) -> Row {
        Row {
            p50_us: ours.p50_us(),
            p99_us: ours.p99_us(),
            baseline: Some(name.into()),
            baseline_p50_us: theirs.p50_us(),
            baseline_p99_us: theirs.p99_us(),
            ratio: ours.ratio(theirs),
            ..self
        }
    }

    pub fn ratio_p99(&self) -> Option<f64> {
        match (self.p99_us, self.baseline_p99_us) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => Some(ours / theirs),
            _ => None,
        }
    }

    /// Whether all that is wanted of it was reached. `None` where nothing is wanted.
    fn is_met(&self) -> Option<bool> {
        (!self.wanted.is_empty())
            .then(|| self.wanted.iter().all(|wanted| wanted.is_met(self).unwrap_or(false)))
    }

    fn wanted_text(&self) -> String {
        self.wanted.iter().map(Wanted::to_string).collect::<Vec<_>>().join(", ")
    }

    fn to_json(&self) -> String {
        let mut out = String::from("{");
        text(&mut out, "bench", Some(self.bench));
        text(&mut out, "case", Some(&self.case));
        text(&mut out, "wait", self.wait.map(mode_name));
        text(&mut out, "placement", self.placement.map(Placement::name));
        raw(&mut out, "bytes", self.bytes);
        raw(&mut out, "threads", self.threads);
        raw(&mut out, "touch", Some(self.touch));
        number(&mut out, "p50_us", self.p50_us);
        number(&mut out, "p99_us", self.p99_us);
        number(&mut out, "per_s", self.per_s);
        text(&mut out, "baseline", self.baseline.as_deref());
        number(&mut out, "baseline_p50_us", self.baseline_p50_us);
        number(&mut out, "baseline_p99_us", self.baseline_p99_us);
        number(&mut out, "baseline_per_s", self.baseline_per_s);
        number(&mut out, "ratio", self.ratio);
        number(&mut out, "ratio_p99", self.ratio_p99());
        number(&mut out, "value", self.value);
        text(&mut out, "unit", self.value.map(|_| self.unit));
        text(&mut out, "wanted", self.is_met().map(|_| self.wanted_text()).as_deref());
        raw(&mut out, "met", self.is_met());
        out.push('}');
        out
    }

    fn cells(&self) -> [String; COLUMNS] {
        let micros = |value: Option<f64>| value.map_or(String::new(), |us| format!("{us:.3}"));
        let rate = |value: Option<f64>| value.map_or(String::new(), |rate| format!("{rate:.0}"));
        let ratio = |value: Option<f64>| value.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        [
            self.bench.into(),
            self.case.clone(),
            self.wait.map_or("", mode_name).into(),
            self.placement.map_or("", Placement::name).into(),
            self.threads.map_or(String::new(), |n| n.to_string()),
            self.bytes.map_or(String::new(), size),
            micros(self.p50_us),
            micros(self.p99_us),
            rate(self.per_s),
            self.baseline.clone().unwrap_or_default(),
            micros(self.baseline_p50_us),
            micros(self.baseline_p99_us),
            rate(self.baseline_per_s),
            ratio(self.ratio),
            ratio(self.ratio_p99()),
            self.value.map_or(String::new(), |value| format!("{} {}", short(value), self.unit)),
            self.wanted_text(),
            self.is_met().map_or("", |met| if met { "yes" } else { "NO" }).into(),
        ]
    }
}

/// Where rows go.
#[derive(Debug)]
pub struct Report {
    json: bool,
    limits_only: bool,
    rows: Vec<Row>,
}

impl Report {
    /// One of JSON lines or of a table; of all rows, or only of those of which something is wanted.
    pub fn new(json: bool, limits_only: bool) -> Report {
        Report { json, limits_only, rows: Vec::new() }
    }

    /// Takes a row; as JSON it is out at once. A reader that went away is not an error of the measurement.
    pub fn add(&mut self, row: Row) {
        if self.limits_only && row.wanted.is_empty() {
            return;
        }
        if self.json {
            let _ = writeln!(std::io::stdout(), "{}", row.to_json());
            let _ = std::io::stdout().flush();
        } else {
            eprint!("."); // somebody may be waiting
            self.rows.push(row);
        }
    }

    /// Says why a row is not there.
    pub fn skipped(&self, what: &str, why: &str) {
        eprintln!("SKIPPED {what} ({why})");
    }

    /// Prints the table.
    pub fn finish(self) {
        if self.json {
            return;
        }
        eprintln!();
        let cells: Vec<_> =
            std::iter::once(HEADINGS.map(String::from)).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = std::array::from_fn(width);
        let several = self.rows.windows(2).any(|rows| rows[0].bench != rows[1].bench);
        let used = |column: usize| match column {
            0 => several,
            column => cells.iter().skip(1).any(|row| !row[column].is_empty()),
        };
        let mut out = String::new();
        for row in &cells {
            for (column, cell) in row.iter().enumerate().filter(|(column, _)| used(*column)) {
                let width = widths[column];
                let _ = match LEFT.contains(&column) {
                    true => write!(out, "{cell:<width$}  "),
                    false => write!(out, "{cell:>width$}  "),
                };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        let _ = std::io::stdout().write_all(out.as_bytes());
    }
}

/// As the command line and the rows name it.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Adaptive => "adaptive",
        Mode::Park => "park",
        Mode::Spin => "spin",
    }
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        n if n >= MIB && n.is_multiple_of(MIB) => format!("{} MiB", n / MIB),
        n if n >= KIB && n.is_multiple_of(KIB) => format!("{} KiB", n / KIB),
        n => format!("{n} B"),
    }
}

/// Without a fraction where that is the smaller part by far.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn key(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    let _ = write!(out, "\"{name}\":");
}

fn text(out: &mut String, name: &str, value: Option<&str>) {
    key(out, name);
    let Some(value) = value else { return out.push_str("null") };
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn raw(out: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    key(out, name);
    let _ = match value {
        Some(value) => write!(out, "{value}"),
        None => write!(out, "null"),
    };
}

fn number(out: &mut String, name: &str, value: Option<f64>) {
    // JSON has no word for infinity.
    raw(out, name, value.filter(|value| value.is_finite()).map(|value| format!("{value:.4}")));
}

const COLUMNS: usize = 18;
const HEADINGS: [&str; COLUMNS] = [
    "bench",
    "case",
    "wait",
    "placement",
    "threads",
    "bytes",
    "p50 µs",
    "p99 µs",
    "per s",
    "baseline",
    "its p50",
    "its p99",
    "its per s",
    "ratio",
    "ratio p99",
    "value",
    "wanted",
    "met",
];
/// Columns of text.
const LEFT: [usize; 7] = [0, 1, 2, 3, 9, 16, 17];
