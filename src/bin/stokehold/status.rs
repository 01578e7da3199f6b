//! `stokehold status`: how a served pool is, for somebody who was woken by it.

use crate::failure::Failure;
use crate::{help, json, socket};
use lexopt::Arg::{Long, Short};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use stokehold::Value;

/// Asks and prints. Fails where the pool takes no calls, so that a script can tell.
pub fn run(mut parser: lexopt::Parser) -> Result<ExitCode, Failure> {
    let (mut path, mut as_json): (Option<PathBuf>, bool) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(help::say(help::STATUS)),
            Short('s') | Long("socket") => path = Some(parser.value()?.into()),
            Long("json") => as_json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let path = path.map_or_else(socket::default_path, Ok)?;
    let status = stokehold::status(path)?;
    help::say(&if as_json { json::print(&status, true) + "\n" } else { readable(&status) });
    let serves = matches!(text(&status, "state"), "running" | "starting");
    Ok(ExitCode::from(if serves { 0 } else { NOT_SERVING }))
}

/// Exit status where the pool answers and takes no calls.
const NOT_SERVING: u8 = 3;

/// Over a few lines, what is wrong first.
fn readable(status: &Value) -> String {
    let mut out = String::new();
    let (ready, wanted) = (number(status, "workers_ready"), number(status, "workers_wanted"));
    let _ = writeln!(
        out,
        "{}: {ready} of {wanted} workers ready, up {}",
        text(status, "state").to_uppercase(),
        span(number(status, "up_ms"))
    );
    if let Some(failure) = status.get("boot_failure").filter(|failure| !failure.is_none()) {
        let ago = span(number(failure, "ago_ms"));
        let _ = writeln!(out, "  a worker did not become ready {ago} ago: {}", tame(text(failure, "why")));
    }
    let _ = writeln!(
        out,
        "  pid {} of stokehold {}, {}",
        number(status, "pid"),
        tame(text(status, "stokehold")),
        tame(text(status, "path"))
    );
    let apps: Vec<String> = list(status, "apps").iter().filter_map(Value::as_str).map(tame).collect();
    let limit = match number(status, "timeout_ms") {
        0 => "no limit".to_owned(),
        ms => span(ms),
    };
    let threads = number(status, "threads");
    let _ = writeln!(
        out,
        "  apps {}; {threads} calls a worker at a time; limit of a call {limit}",
        apps.join(", ")
    );
    if let Some(calls) = status.get("calls") {
        let _ = writeln!(out, "  calls {}", calls_of(calls));
    }
    if let Some(totals) = status.get("totals") {
        let of = |name| number(totals, name);
        let _ = writeln!(
            out,
            "  so far {} calls, {} lost with a worker, {} refused; {} workers started, {} dead; {} clients",
            of("calls"),
            of("lost_begun") + of("lost_unbegun"),
            of("refused"),
            of("workers_started"),
            of("workers_died"),
            of("clients")
        );
    }
    let (lanes, regions) = (status.get("lanes").cloned(), status.get("regions").cloned());
    let (lanes, regions) = (lanes.unwrap_or_default(), regions.unwrap_or_default());
    let _ = writeln!(
        out,
        "  lanes {} open, {} suspect, {} closing; {} regions of {}",
        number(&lanes, "open"),
        number(&lanes, "suspect"),
        number(&lanes, "closing"),
        number(&regions, "count"),
        size(number(&regions, "bytes"))
    );

    let _ = writeln!(out, "\n  slot  life     pid  state     since         running");
    for worker in list(status, "workers") {
        let _ = match worker.get("pid") {
            Some(_) => writeln!(
                out,
                "  {:>4}  {:>4}  {:>6}  {:<8}  {:<12}  {:>7}",
                number(worker, "slot"),
                number(worker, "life"),
                number(worker, "pid"),
                text(worker, "state"),
                span(number(worker, "since_ms")),
                number(worker, "running")
            ),
            None => writeln!(
                out,
                "  {:>4}     -       -  {:<8}  next start in {}",
                number(worker, "slot"),
                text(worker, "state"),
                span(number(worker, "next_start_ms"))
            ),
        };
    }
    let (clients, connected) = (list(status, "clients"), number(status, "clients_connected"));
    if connected > 0 {
        let _ = writeln!(out, "\n  client     pid  state            calls");
        for client in clients {
            let pid = client.get("pid").and_then(Value::as_int).map_or("-".to_owned(), |pid| pid.to_string());
            let calls = client.get("calls").map(calls_of).unwrap_or_default();
            let (number, state) = (number(client, "client"), text(client, "state"));
            let _ = writeln!(out, "  {number:>6}  {pid:>6}  {state:<15}  {calls}");
        }
        if connected > clients.len() as i64 {
            let _ = writeln!(out, "  and {} more", connected - clients.len() as i64);
        }
    }
    let deaths = list(status, "deaths");
    if !deaths.is_empty() {
        let _ = writeln!(out, "\n  the last deaths");
        for death in deaths {
            let _ = writeln!(
                out,
                "  {} ago  slot {}  life {}  pid {}  {}",
                span(number(death, "ago_ms")),
                number(death, "slot"),
                number(death, "life"),
                number(death, "pid"),
                tame(text(death, "cause"))
            );
        }
    }
    out
}

fn calls_of(calls: &Value) -> String {
    let [queued, running, ended] = ["queued", "running", "ended"].map(|name| number(calls, name));
    format!("{queued} queued, {running} running, {ended} ended and held")
}

fn number(of: &Value, name: &str) -> i64 {
    of.get(name).and_then(Value::as_int).unwrap_or(0)
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or("?")
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_list).unwrap_or_default()
}

/// Text of others, on one line and without control characters.
fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A time that a person takes in at a glance.
fn span(ms: i64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", s, ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

fn size(bytes: i64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
