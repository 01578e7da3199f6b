//! What several fuzz targets need: a process that does nothing, a peer that can say anything, a mapping that
//! anybody may write, a pool that is nothing but memory.

pub mod peer;
pub mod pool;
pub mod rough;
pub mod sleeper;

#[cfg(not(stokehold_fuzzing))]
compile_error!("the hooks are missing: RUSTFLAGS='--cfg stokehold_fuzzing', as ci/fuzz.sh has it");
