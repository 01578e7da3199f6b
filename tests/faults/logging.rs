//! The logger of these tests: `env_logger`, and what a test has it do besides.

use std::sync::Mutex;

/// Called for each message that is logged in this process, whatever `RUST_LOG` says.
pub static HOOK: Mutex<Option<fn()>> = Mutex::new(None);

struct Hooked(env_logger::Logger);

impl log::Log for Hooked {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let hook = *HOOK.lock().unwrap();
        if let Some(hook) = hook {
            hook();
        }
        self.0.log(record);
    }

    fn flush(&self) {
        self.0.flush();
    }
}

pub fn init() {
    let logger = env_logger::Logger::from_default_env();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Hooked(logger))).unwrap();
}
