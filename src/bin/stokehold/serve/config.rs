//! What a served pool is configured with. Each setting has one name, as an option (`--boot-timeout-ms`) and in the file
//! (`boot_timeout_ms`); options override the file.

use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use stokehold::{Builder, Mode};
use toml::de::{DeTable, DeValue};

/// The settings, as they are collected.
#[derive(Debug)]
pub struct Config {
    pub socket: Option<PathBuf>,
    pub demo: bool,
    /// The shared object that the apps are in.
    pub library: Option<PathBuf>,
    pub apps: Vec<String>,
    pub builder: Builder,
    /// Two numbers each that the builder takes together.
    restarts: (u32, u64),
    backoff_ms: (u64, u64),
    /// Where relative paths begin: the directory of the file, or this one.
    base: PathBuf,
}

/// A value, as a file or an option has it.
#[derive(Debug)]
pub enum Item {
    Number(u64),
    Text(String),
    Truth(bool),
    List(Vec<String>),
}

#[derive(Clone, Copy)]
enum Type {
    Number,
    Text,
    Truth,
    /// In the file a list, as an option one a time.
    List,
}

/// Every setting there is.
const SETTINGS: &[(&str, Type)] = &[
    ("socket", Type::Text),
    ("demo", Type::Truth),
    ("app-library", Type::Text),
    ("app", Type::List),
    ("workers", Type::Number),
    ("threads", Type::Number),
    ("wait", Type::Text),
    ("timeout-ms", Type::Number),
    ("cancel-signal", Type::Text),
    ("cancel-grace-ms", Type::Number),
    ("signal-grace-ms", Type::Number),
    ("kill-grace-ms", Type::Number),
    ("stop-grace-ms", Type::Number),
    ("boot-timeout-ms", Type::Number),
    ("keep-warm-ms", Type::Number),
    ("restarts", Type::Number),
    ("restarts-within-ms", Type::Number),
    ("backoff-first-ms", Type::Number),
    ("backoff-longest-ms", Type::Number),
];

fn type_of(name: &str) -> Option<Type> {
    SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Whether there is an option of this name that takes a value.
pub fn is_option(name: &str) -> bool {
    type_of(name).is_some_and(|kind| !matches!(kind, Type::Truth))
}

impl Default for Config {
    fn default() -> Config {
        Config {
            socket: None,
            demo: false,
            library: None,
            apps: Vec::new(),
            builder: super::empty(),
            restarts: (5, 10_000),
            backoff_ms: (100, 10_000),
            base: PathBuf::new(),
        }
    }
}

impl Config {
    /// What a file says. What is wrong with it comes with its line.
    pub fn read(path: &Path) -> Result<Config, String> {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Config::parse(path, &text)
    }

    /// The same of a file that was read.
    pub fn parse(path: &Path, text: &str) -> Result<Config, String> {
        let shown = path.display();
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut config = Config { base, ..Config::default() };
        let at = |span: std::ops::Range<usize>, why: &str| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!("{shown}, line {line}: {why}")
        };
        let table =
            DeTable::parse(text).map_err(|e| at(e.span().unwrap_or_default(), e.message().trim_end()))?;
        for (key, value) in table.get_ref() {
            let name = key.get_ref().replace('_', "-");
            let item = match type_of(&name) {
                // The option's own spelling is not the file's.
                Some(_) if key.get_ref().contains('-') => Err(format!("write {}", name.replace('-', "_"))),
                Some(kind) => Item::of_file(kind, value.get_ref()),
                None => {
                    let known: Vec<String> = SETTINGS.iter().map(|(n, _)| n.replace('-', "_")).collect();
                    let why = format!("no setting {:?}; there is {}", key.get_ref(), known.join(", "));
                    return Err(at(key.span(), &why));
                }
            };
            let set = item.and_then(|item| config.set(&name, item));
            set.map_err(|why| at(value.span(), &format!("{}: {why}", key.get_ref())))?;
        }
        config.base = PathBuf::new();
        Ok(config)
    }

    /// Changes one setting. Whether all of them together can be, the pool says.
    pub fn set(&mut self, name: &str, item: Item) -> Result<(), String> {
        let builder = self.builder.clone();
        self.builder = match (name, item) {
            ("socket", Item::Text(path)) => {
                self.socket = Some(self.base.join(path));
                return Ok(());
            }
            ("app-library", Item::Text(path)) => {
                self.library = Some(self.base.join(path));
                return Ok(());
            }
            ("demo", Item::Truth(demo)) => {
                self.demo = demo;
                return Ok(());
            }
            ("app", Item::List(apps)) => {
                self.apps.extend(apps);
                return Ok(());
            }
            ("wait", Item::Text(mode)) => builder.wait(match mode.as_str() {
                "adaptive" => Mode::Adaptive,
                "park" => Mode::Park,
                "spin" => Mode::Spin,
                other => return Err(format!("{other:?} is none of adaptive, park and spin")),
            }),
            ("workers", Item::Number(n)) => builder.workers(narrow(n)?),
            ("threads", Item::Number(n)) => builder.threads(narrow(n)?),
            ("timeout-ms", Item::Number(ms)) => builder.timeout_ms(ms),
            ("cancel-signal", Item::Text(name)) => builder.cancel_signal(signal_of(&name)?),
            ("cancel-grace-ms", Item::Number(ms)) => builder.cancel_grace_ms(ms),
            ("signal-grace-ms", Item::Number(ms)) => builder.signal_grace_ms(ms),
            ("kill-grace-ms", Item::Number(ms)) => builder.kill_grace_ms(ms),
            ("stop-grace-ms", Item::Number(ms)) => builder.stop_grace_ms(ms),
            ("boot-timeout-ms", Item::Number(ms)) => builder.boot_timeout_ms(ms),
            ("keep-warm-ms", Item::Number(ms)) => builder.keep_warm_ms(ms),
            ("restarts", Item::Number(n)) => {
                self.restarts.0 = narrow(n)?;
                builder.restart_limit(self.restarts.0, self.restarts.1)
            }
            ("restarts-within-ms", Item::Number(ms)) => {
                self.restarts.1 = ms;
                builder.restart_limit(self.restarts.0, self.restarts.1)
            }
            ("backoff-first-ms", Item::Number(ms)) => {
                self.backoff_ms.0 = ms;
                builder.backoff_ms(self.backoff_ms.0, self.backoff_ms.1)
            }
            ("backoff-longest-ms", Item::Number(ms)) => {
                self.backoff_ms.1 = ms;
                builder.backoff_ms(self.backoff_ms.0, self.backoff_ms.1)
            }
            (_, item) => return Err(format!("{item:?} makes no sense here")),
        };
        Ok(())
    }
}

impl Item {
    /// As an option has it.
    pub fn of_flag(name: &str, value: String) -> Result<Item, String> {
        match type_of(name) {
            Some(Type::Number) => {
                value.parse().map(Item::Number).map_err(|_| format!("{value:?} is no whole number"))
            }
            Some(Type::List) => Ok(Item::List(vec![value])),
            Some(Type::Truth) => Ok(Item::Truth(value == "true")),
            Some(Type::Text) => Ok(Item::Text(value)),
            None => Err("there is no such option".to_owned()),
        }
    }

    fn of_file(kind: Type, value: &DeValue<'_>) -> Result<Item, String> {
        match (kind, value) {
            (Type::Number, DeValue::Integer(n)) => u64::from_str_radix(n.as_str(), n.radix())
                .map(Item::Number)
                .map_err(|_| format!("{n} is not a whole number of 0 or more")),
            (Type::Text, DeValue::String(text)) => Ok(Item::Text(text.to_string())),
            (Type::Truth, DeValue::Boolean(truth)) => Ok(Item::Truth(*truth)),
            (Type::List, DeValue::Array(items)) => {
                let text = |value: &DeValue<'_>| match value {
                    DeValue::String(text) => Ok(text.to_string()),
                    _ => Err("an element is no string".to_owned()),
                };
                items.iter().map(|item| text(item.get_ref())).collect::<Result<_, _>>().map(Item::List)
            }
            (Type::Number, _) => Err("a whole number is wanted".into()),
            (Type::Text, _) => Err("a string is wanted".into()),
            (Type::Truth, _) => Err("true or false is wanted".into()),
            (Type::List, _) => Err("a list of strings is wanted".into()),
        }
    }
}

/// A signal by its name, with or without SIG. Whether it can cancel calls, the pool says.
fn signal_of(name: &str) -> Result<i32, String> {
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    let signal: Signal = full.parse().map_err(|_| format!("{name:?} is no signal's name, such as USR1"))?;
    Ok(signal as i32)
}

fn narrow<T: TryFrom<u64>>(n: u64) -> Result<T, String> {
    T::try_from(n).map_err(|_| format!("{n} is too many"))
}
