//! Tests of the room as a whole. `golden` has the vectors, the others say what they test.

mod compatible;
mod drafts;
mod frames;
mod golden;
mod hostile;
mod limits;
mod references;
#[cfg(feature = "serde")]
mod serde_types;
mod types;

use super::{Encode, Encoder, NoReferences, Value, ValueRef, WireError, decode};

/// A value's bytes, as for shared memory.
pub(super) fn bytes_of(value: &(impl Encode + ?Sized)) -> Result<Vec<u8>, WireError> {
    let mut e = Encoder::new(&mut []);
    value.encode(&mut e)?;
    let Err(more) = e.finish() else { return Ok(Vec::new()) };
    let mut block = vec![0; more.needed];
    let mut e = Encoder::new(&mut block);
    value.encode(&mut e)?;
    assert_eq!(e.finish(), Ok(more.needed));
    Ok(block)
}

/// Decodes as from a socket and owns.
pub(super) fn value_of(bytes: &[u8]) -> Result<Value, WireError> {
    decode(bytes, &NoReferences).and_then(ValueRef::to_owned)
}

/// So many cases, or as many as `PROPTEST_CASES` says.
pub(super) fn cases(usual: u32) -> proptest::test_runner::Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    proptest::test_runner::Config {
        cases: asked.unwrap_or(usual),
        failure_persistence: None,
        ..Default::default()
    }
}
