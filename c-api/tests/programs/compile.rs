//! Compilers, their flags, and what they are asked for.

use crate::Verdict;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a static library of Rust needs besides: what `rustc --print native-static-libs` says.
const LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";
const WARNINGS: &str = "-Wall -Wextra -Wpedantic -Werror";

/// How programs are made and run: see the table in `programs.rs`.
pub struct Setup {
    cc: String,
    cxx: String,
    cflags: Vec<String>,
    shared: bool,
    pub runner: Vec<String>,
    pub armed: String,
    /// Where the library is.
    libraries: PathBuf,
    /// Where programs are made.
    pub work: PathBuf,
    repository: PathBuf,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = if self.shared { "shared" } else { "static" };
        write!(f, "{}, {}, {link} {} {}", self.cc, self.cxx, self.cflags.join(" "), self.runner.join(" "))
    }
}

/// What came of compiling.
pub enum Compiled {
    To(PathBuf),
    /// It cannot be done here, and why.
    No(String),
    Failed(String),
}

impl Compiled {
    /// What it means where nothing is to be run.
    pub fn verdict(self) -> Verdict {
        match self {
            Compiled::To(_) => Verdict::Ok,
            Compiled::No(why) => Verdict::Skipped(why),
            Compiled::Failed(why) => Verdict::Failed(why),
        }
    }
}

impl Setup {
    pub fn from_environment() -> Setup {
        let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
        let words = |name: &str| variable(name, "").split_whitespace().map(str::to_owned).collect();
        let link = variable("STOKEHOLD_LINK", "static");
        assert!(["static", "shared"].contains(&link.as_str()), "STOKEHOLD_LINK is {link:?}");
        // Cargo puts the library and this test beside each other.
        let libraries = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // What runs that failed have left to look at is large.
        for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("c-").and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let work = tmp.join(format!("c-{}", std::process::id()));
        fs::create_dir_all(&work).unwrap();
        Setup {
            cc: variable("STOKEHOLD_CC", "cc"),
            cxx: variable("STOKEHOLD_CXX", "c++"),
            cflags: words("STOKEHOLD_CFLAGS"),
            shared: link == "shared",
            runner: words("STOKEHOLD_RUNNER"),
            armed: variable("STOKEHOLD_ARMED", ""),
            libraries,
            work,
            repository: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        }
    }

    /// What is left of a run that failed may be looked at.
    pub fn clean_up(&self, passed: bool) {
        if passed {
            let _ = fs::remove_dir_all(&self.work);
        } else {
            println!("the programs are in {}", self.work.display());
        }
    }

    /// The tool that programs run under, for tests that cannot run under it.
    pub fn under(&self) -> String {
        let under_valgrind = self.under_valgrind().then_some("valgrind");
        let sanitized = self.cflags.iter().any(|f| f.contains("address")).then_some("address");
        under_valgrind.into_iter().chain(sanitized).collect::<Vec<_>>().join(" ")
    }

    fn under_valgrind(&self) -> bool {
        self.runner.iter().any(|word| word.ends_with("valgrind"))
    }

    pub fn c(&self, name: &str, source: &str) -> Compiled {
        let mut sources = vec![source];
        if self.under_valgrind() {
            sources.push("c-api/tests/c/memcheck.c");
        }
        self.link(&self.cc, "-std=c11", name, &sources)
    }

    pub fn cxx(&self, name: &str, source: &str) -> Compiled {
        if self.under_valgrind() {
            return Compiled::No("memcheck.c is C, and no C++ program needs to run under valgrind".into());
        }
        self.link(&self.cxx, "-std=c++17", name, &[source])
    }

    fn link(&self, compiler: &str, standard: &str, name: &str, sources: &[&str]) -> Compiled {
        let to = self.work.join(name);
        let mut command = Command::new(compiler);
        command.current_dir(&self.repository).arg(standard).args(WARNINGS.split(' ')).args(&self.cflags);
        command.args(["-Iinclude", "-Ic-api/tests/c", "-o"]).arg(&to).args(sources);
        self.libraries_of(&mut command);
        run(command, compiler, to)
    }

    fn libraries_of(&self, command: &mut Command) {
        if self.shared {
            command.arg("-L").arg(&self.libraries).arg("-l:libstokehold_c.so");
            command.arg(format!("-Wl,-rpath,{}", self.libraries.display())).arg("-lpthread");
        } else {
            command.arg(self.libraries.join("libstokehold_c.a")).args(LIBRARIES.split(' '));
        }
    }

    /// A library of apps.
    pub fn object(&self, name: &str, source: &str) -> Compiled {
        let to = self.work.join(name);
        let mut command = Command::new(&self.cc);
        command.current_dir(&self.repository).arg("-std=c11").args(WARNINGS.split(' ')).args(&self.cflags);
        command.args(["-Iinclude", "-shared", "-fPIC", "-o"]).arg(&to).arg(source);
        self.libraries_of(&mut command);
        command.arg("-Wl,--exclude-libs,ALL");
        run(command, &self.cc, to)
    }

    /// Whether the header needs nothing beside it.
    pub fn header_alone(&self, cxx: bool) -> Compiled {
        let (compiler, standard, ending) =
            if cxx { (&self.cxx, "-std=c++17", "cpp") } else { (&self.cc, "-std=c11", "c") };
        let source = self.work.join(format!("alone.{ending}"));
        fs::write(&source, "#include \"stokehold.h\"\n#include \"stokehold.h\"\n").unwrap();
        let mut command = Command::new(compiler);
        command.current_dir(&self.repository).arg(standard).args(WARNINGS.split(' ')).args(&self.cflags);
        // What a host may be compiled with; -Wpedantic has no words for these.
        command.args(["-Wconversion", "-Wshadow", "-Wundef", "-Wcast-qual"]);
        if !cxx {
            command.args(["-Wstrict-prototypes", "-Wmissing-prototypes"]);
        }
        command.args(["-Iinclude", "-fsyntax-only"]).arg(&source);
        run(command, compiler, source)
    }
}

fn run(mut command: Command, compiler: &str, to: PathBuf) -> Compiled {
    match command.stdin(Stdio::null()).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Compiled::No(format!("there is no {compiler}")),
        Err(e) => Compiled::Failed(format!("{compiler}: {e}")),
        Ok(output) if output.status.success() && output.stderr.is_empty() => Compiled::To(to),
        Ok(output) => Compiled::Failed(format!(
            "{command:?} says, {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
