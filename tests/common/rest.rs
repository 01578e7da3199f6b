//! C6: at rest, what a pool says of itself is what there is.

use super::proc::Process;
use stokehold::Value;

/// Whether a pool of so many workers, of whose session these processes are, has come to rest: else what has not.
pub fn at_rest(status: &Value, wanted: usize, there: &[Process]) -> Result<(), String> {
    let is = |what: &str, is: i64, wanted: i64| match is == wanted {
        true => Ok(()),
        false => Err(format!("C6: {what}: {is} where {wanted} should be")),
    };
    let leader = number(status, "pid")? as u32;
    let workers = list(status, "workers")?;
    is("workers", workers.len() as i64, wanted as i64)?;
    is("workers that are ready", number(status, "workers_ready")?, wanted as i64)?;
    let mut pids = Vec::new();
    for worker in workers {
        if worker.get("state").and_then(Value::as_str) != Some("ready") {
            return Err(format!("C6: a worker that is not ready: {worker:?}"));
        }
        is("calls with a worker", number(worker, "running")?, 0)?;
        pids.push(number(worker, "pid")? as u32);
    }
    for name in ["queued", "running", "ended"] {
        is(&format!("calls that are {name}"), number(field(status, "calls")?, name)?, 0)?;
    }
    let (lanes, clients) = (field(status, "lanes")?, number(status, "clients_connected")?);
    is("suspect lanes", number(lanes, "suspect")?, 0)?;
    is("closing lanes", number(lanes, "closing")?, 0)?;
    // Workers that call others are clients, too.
    is("open lanes", number(lanes, "open")?, clients)?;
    if clients > wanted as i64 {
        return Err(format!("C6: {clients} clients where none but workers are left"));
    }
    for pid in pids.iter().chain([&leader]) {
        if !there.iter().any(|process| process.pid == *pid && process.state != 'Z') {
            return Err(format!("C6: {pid} is not there"));
        }
    }
    // What an app starts, and whether it reaps that, is its own affair.
    let is_known = |process: &&Process| {
        process.pid == leader || pids.contains(&process.pid) || pids.contains(&process.parent)
    };
    match there.iter().find(|process| !is_known(process)) {
        Some(process) => Err(format!("C6: nobody's process: {process:?}")),
        None => Ok(()),
    }
}

fn field<'a>(of: &'a Value, name: &str) -> Result<&'a Value, String> {
    of.get(name).ok_or_else(|| format!("C6: {name} is not told"))
}

pub fn number(of: &Value, name: &str) -> Result<i64, String> {
    field(of, name)?.as_int().ok_or_else(|| format!("C6: {name} is no number"))
}

pub fn list<'a>(of: &'a Value, name: &str) -> Result<&'a [Value], String> {
    field(of, name)?.as_list().ok_or_else(|| format!("C6: {name} is no list"))
}
