//! The committed header is what the source makes. `STOKEHOLD_WRITE_HEADER=1 cargo test -p stokehold-c --test header`
//! writes it.

use std::path::Path;

#[test]
fn the_header_is_fresh() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::Builder::new().with_crate(here).with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let committed = here.join("../include/stokehold.h");
    if std::env::var_os("STOKEHOLD_WRITE_HEADER").is_some() {
        std::fs::write(&committed, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&committed).unwrap_or_default();
    let differs = made.lines().zip(committed.lines()).enumerate().find(|(_, (a, b))| a != b);
    assert!(
        made == committed,
        "include/stokehold.h is stale, first at {differs:?}; STOKEHOLD_WRITE_HEADER=1 cargo test -p stokehold-c --test header"
    );
}
