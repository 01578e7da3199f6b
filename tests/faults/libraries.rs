//! Apps in shared objects: one in Rust, and all those that are not what they should be.

use crate::app::{fails, ready};
use crate::guard::{PoolGuard, some, until};
use crate::harness::{Outcome, Skip};
use crate::proc;
use crate::program::{Daemon, say, text};
use nix::sys::signal::Signal;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::shm::layout_hash;
use stokehold::internals::{sys, wire};
use stokehold::{Client, Code, Options, Pool, Value};

crate::tests! {
    a_library_in_rust,
    a_library_in_a_pool_of_a_host,
    only_workers_load_a_library,
    files_that_are_no_library_of_apps,
    libraries_of_another_version,
    libraries_that_do_not_answer,
    a_library_without_apps,
    a_library_whose_workers_crash,
    a_library_that_is_replaced_by_another_version,
    a_library_and_other_apps,
}

const PATH: &str = "d/pool.sock";
const WORDS: &str = "words:Words";

/// The example, built as this program was.
fn words() -> Result<PathBuf, Skip> {
    let cargo = env::var_os("CARGO").or(option_env!("CARGO").map(Into::into));
    let cargo = cargo.ok_or_else(|| Skip("there is no cargo to build the library with".into()))?;
    let profile = env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--example", "library", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).arg("--target-dir");
    build.arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    Ok(profile.join("examples/liblibrary.so"))
}

/// A shared object of C, with these functions in it.
fn object(name: &str, source: &str) -> Result<String, Skip> {
    let source = format!("#include <stdlib.h>\n#include <unistd.h>\n{source}");
    fs::write("note", source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-x", "c", "note", "-o", name]).status();
    let compiled = compiled.map_err(|e| Skip(format!("cc: {e}")))?;
    assert!(compiled.success());
    Ok(env::current_dir().unwrap().join(name).display().to_string())
}

/// What a library answers when it is asked for its apps, as an array of C.
fn answer(layout: u64, apps: &[&str]) -> String {
    let (ours, theirs) = sys::socket::pair().unwrap();
    let answer = Message::new(wire::Kind::Ready)
        .with("layout", layout as i64)
        .with("apps", apps.iter().map(|app| app.to_string()).collect::<Vec<_>>());
    Link::new(ours).send(answer).unwrap();
    let mut bytes = Vec::new();
    fs::File::from(theirs).read_to_end(&mut bytes).unwrap();
    let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("static const unsigned char answer[] = {{{}}};\n", bytes.join(","))
}

/// An object that knows the border and answers so, and runs so.
fn lying(name: &str, layout: u64, run: &str) -> Result<String, Skip> {
    with_apps(name, layout, &["c:App"], run)
}

fn with_apps(name: &str, layout: u64, apps: &[&str], run: &str) -> Result<String, Skip> {
    let source = format!(
        "{}int stokehold_app_library(unsigned abi, unsigned purpose, int fd) {{\n\
         if (purpose == 0) return abi;\n\
         if (purpose == 1) return write(fd, answer, sizeof answer) < 0;\n\
         {run} }}\n",
        answer(layout, apps)
    );
    object(name, &source)
}

fn serve(library: &str, more: &[&str]) -> Result<Daemon, Skip> {
    let quick = ["--backoff-first-ms", "1", "--backoff-longest-ms", "5", "--restarts", "2"];
    Daemon::start(PATH, &[&["-s", PATH, "--app-library", library], &quick[..], more].concat())
}

fn serves_words(client: &Client) {
    let counts = client.call(WORDS, "count").args(("a b a",)).execute().unwrap().into_owned().unwrap();
    assert_eq!(counts, Value::Dict(vec![("a".into(), Value::Int(2)), ("b".into(), Value::Int(1))]));
}

fn end(daemon: Daemon) {
    assert!(daemon.end().success());
    fs::remove_dir("d").unwrap();
}

fn a_library_in_rust() -> Outcome {
    let _guard = PoolGuard::new();
    let library = words()?;
    let daemon = serve(library.to_str().unwrap(), &["-w", "2"])?;
    daemon.until("running");
    let client = Client::connect_path(PATH, Options::default()).unwrap();
    assert_eq!(client.apps(), [WORDS]);
    serves_words(&client);
    let error = fails(client.call(WORDS, "crash").execute());
    assert_eq!((error.code(), error.started()), (Code::WorkerDied, Some(true)), "{error}");
    ready(&client, 2, &[]);
    serves_words(&client);
    say(&["call", "-s", PATH, WORDS, "count", "\"x\""])?.is(0, &["{\"x\":1}"]);
    drop(client);
    end(daemon);
    Ok(())
}

/// The same in the way of a host, which loads nothing either.
fn a_library_in_a_pool_of_a_host() -> Outcome {
    let mut guard = PoolGuard::new();
    let library = words()?;
    let pool = guard.start(Pool::builder().app_library(&library).workers(2));
    serves_words(&pool.client().unwrap());
    drop(pool);
    let pool = guard.start(Pool::builder().app_library(&library).app_named(WORDS).by_fork());
    serves_words(&pool.client().unwrap());
    drop(pool);
    let error = Pool::builder().app_library(&library).app_named("no:App").start().unwrap_err();
    assert_eq!(error.code(), Code::Config);
    assert!(error.to_string().contains("no:App") && error.to_string().contains(WORDS), "{error}");
    let error = Pool::builder().app_library("nowhere/lib.so").start().unwrap_err();
    assert_eq!(error.code(), Code::Start);
    assert!(error.to_string().contains("nowhere/lib.so"), "{error}");
    until("nothing is left", || proc::working_in(&env::current_dir().unwrap()).is_empty());
    Ok(())
}

fn only_workers_load_a_library() -> Outcome {
    let _guard = PoolGuard::new();
    let library = words()?;
    let daemon = serve(library.to_str().unwrap(), &[])?;
    let status = daemon.until("running");
    let pid = |of: &Value| of.get("pid").and_then(Value::as_int).unwrap() as u32;
    let worker = pid(&status.get("workers").and_then(Value::as_list).unwrap()[0]);
    let maps = |pid: u32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("liblibrary.so");
    assert!(maps(worker));
    assert!(!maps(pid(&status)));
    // Nothing of the arbiter's is open in it, and nothing of the border.
    let theirs = proc::descriptors(worker);
    let sockets = theirs.values().filter(|to| to.starts_with("socket:")).count();
    assert_eq!(sockets, 2, "{theirs:?}");
    end(daemon);
    Ok(())
}

fn files_that_are_no_library_of_apps() -> Outcome {
    let _guard = PoolGuard::new();
    let refused = |library: &str, words: &[&str]| {
        say(&["serve", "-s", PATH, "--app-library", library]).map(|said| said.is(1, words))
    };
    refused("nowhere/lib.so", &["nowhere/lib.so", "No such file"])?;
    fs::write("note2", "not an object").unwrap();
    refused("note2", &["note2", "library of apps"])?;
    let object = object("gate", "int something_else;")?;
    refused(&object, &["gate", "does not export stokehold_app_library"])?;
    assert!(!Path::new("d").exists(), "nothing was made for it");
    Ok(())
}

fn libraries_of_another_version() -> Outcome {
    let _guard = PoolGuard::new();
    let refused = |library: &str, words: &[&str]| {
        say(&["serve", "-s", PATH, "--app-library", library]).map(|said| said.is(1, words))
    };
    let another = "int stokehold_app_library(unsigned abi, unsigned purpose, int fd) { return -1; }";
    refused(&object("gate", another)?, &["gate", "another version of stokehold", "-1"])?;
    let ours = format!("layout {:#x}", layout_hash());
    refused(&lying("gate", 0x123, "abort();")?, &["gate", "another version", "layout 0x123", &ours[7..]])?;
    Ok(())
}

fn libraries_that_do_not_answer() -> Outcome {
    let _guard = PoolGuard::new();
    let refused = |source: &str, words: &[&str]| {
        let library = object("gate", source)?;
        let args = ["serve", "-s", PATH, "--app-library", &library, "--boot-timeout-ms", "300"];
        say(&args).map(|said| said.is(1, words))
    };
    let with = |list: &str| {
        format!(
            "int stokehold_app_library(unsigned abi, unsigned purpose, int fd) {{\n\
             if (purpose == 0) return abi;\n{list} return 0; }}"
        )
    };
    refused("__attribute__((constructor)) static void born(void) { abort(); }", &["signal 6"])?;
    refused("__attribute__((constructor)) static void born(void) { _exit(7); }", &["exit status 7"])?;
    refused(&with("abort();"), &["without an answer", "signal 6"])?;
    refused(&with(""), &["without an answer", "exit status 0"])?;
    refused(&with("pause();"), &["gate", "timed out"])?;
    refused(&with("(void)!write(fd, \"no frame at all, certainly\", 26);"), &["gate"])?;
    Ok(())
}

fn a_library_without_apps() -> Outcome {
    let _guard = PoolGuard::new();
    let library = with_apps("gate", layout_hash(), &[], "abort();")?;
    say(&["serve", "-s", PATH, "--app-library", &library])?.is(1, &["gate", "no apps"]);
    Ok(())
}

/// Its names are known, and then no worker becomes ready: the pool says why, and goes on trying.
fn a_library_whose_workers_crash() -> Outcome {
    let _guard = PoolGuard::new();
    for (run, why) in
        [("abort();", "signal 6"), ("_exit(7);", "exit status 7"), ("return 5;", "exit status 3")]
    {
        let library = lying("gate", layout_hash(), run)?;
        let daemon = serve(&library, &[])?;
        daemon.until("degraded");
        let status = some("a reason is known", || {
            let status = daemon.status();
            status.get("boot_failure").filter(|failure| !failure.is_none())?;
            Some(status)
        });
        let said = text(status.get("boot_failure").unwrap(), "why").to_owned();
        assert!(said.contains(why), "{said}");
        say(&["status", "-s", PATH])?.is(3, &["DEGRADED", why]);
        say(&["call", "-s", PATH, "c:App", "x"])?.is(16, &["degraded"]);
        end(daemon);
    }
    Ok(())
}

/// The workers that there are go on; a new one says what is wrong. Put right, the pool recovers by itself.
fn a_library_that_is_replaced_by_another_version() -> Outcome {
    let _guard = PoolGuard::new();
    let library = words()?;
    fs::copy(&library, "gate2").unwrap();
    let daemon = serve("gate2", &[])?;
    daemon.until("running");
    let client = Client::connect_path(PATH, Options::default()).unwrap();
    serves_words(&client);
    let another = "int stokehold_app_library(unsigned abi, unsigned purpose, int fd) { return -1; }";
    object("gate", another)?;
    fs::rename("gate", "gate2").unwrap();
    serves_words(&client);
    crate::guard::kill(client.worker_pids()[0], Signal::SIGKILL);
    let status = daemon.until("degraded");
    let why = text(status.get("boot_failure").unwrap(), "why").to_owned();
    assert!(why.contains("another version of stokehold"), "{why}");
    fs::copy(&library, "gate").unwrap();
    fs::rename("gate", "gate2").unwrap();
    daemon.until("running");
    serves_words(&client);
    drop(client);
    end(daemon);
    Ok(())
}

fn a_library_and_other_apps() -> Outcome {
    let _guard = PoolGuard::new();
    let library = words()?.display().to_string();
    let refused = |args: &[&str], words: &[&str]| {
        say(&[&["serve", "-s", PATH, "--app-library", &library], args].concat()).map(|said| said.is(2, words))
    };
    refused(&["--demo"], &["not both"])?;
    refused(&["--app-library", &library], &["one --app-library"])?;
    refused(&["--app", "no:App"], &["no:App", WORDS])?;
    let daemon = serve(&library, &["--app", WORDS])?;
    daemon.until("running");
    end(daemon);
    Ok(())
}
