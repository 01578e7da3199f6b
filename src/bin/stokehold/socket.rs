//! Where a pool is served when nobody says where.

use crate::failure::Failure;
use std::path::{Path, PathBuf};
use stokehold::internals::sys::process;

/// `stokehold/pool.sock` in the directory that the system gives this user for such things.
pub fn default_path() -> Result<PathBuf, Failure> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let uid = process::uid();
    let usual = || Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|dir| dir.is_dir());
    let system = || (uid == 0).then(|| Path::new("/run").to_owned());
    match given.or_else(usual).or_else(system) {
        Some(dir) => Ok(dir.join("stokehold").join("pool.sock")),
        None => Err(Failure::usage(format!(
            "XDG_RUNTIME_DIR is not set and there is no /run/user/{uid}: say --socket PATH"
        ))),
    }
}
