//! A library of apps: what `stokehold serve` loads in its workers. Try it:
//!
//! ```sh
//! cargo build --release --example library
//! cargo run --release -- serve --app-library target/release/examples/liblibrary.so
//! cargo run --release -- call words:Words count '"the quick brown fox jumps over the lazy dog"'
//! ```

use std::collections::BTreeMap;
use stokehold::{App, Args, Ctx, Error, Reply, Result};

struct Words;

impl App for Words {
    const NAME: &'static str = "words:Words";

    fn init(_: &Ctx) -> Result<Self> {
        Ok(Words)
    }

    fn call(&self, action: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
        match action {
            // How often each word is in a text.
            "count" => {
                let (text,): (&str,) = args.parse()?;
                let mut counts = BTreeMap::new();
                for word in text.split_whitespace() {
                    *counts.entry(word).or_insert(0) += 1;
                }
                Ok(Reply::new(&counts))
            }
            // What becomes of a pool whose library is not what it should be.
            "crash" => std::process::abort(),
            other => Err(Error::no_action(other)),
        }
    }
}

stokehold::app_library!(|apps| apps.add::<Words>());
