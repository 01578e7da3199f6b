//! Memory of a size that a payload decides: had, or an error. What is smaller, and of a size that is known, is std's business,
//! which ends the process where there is none.

use super::WireError;

/// A copy of bytes.
pub(super) fn copy(bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut copy = with_capacity(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A copy of a string.
pub(crate) fn copy_str(text: &str) -> Result<String, WireError> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).map_err(|_| WireError::OutOfMemory)?;
    copy.push_str(text);
    Ok(copy)
}

/// Room for so many.
pub(super) fn with_capacity<T>(count: usize) -> Result<Vec<T>, WireError> {
    let mut items = Vec::new();
    items.try_reserve_exact(count).map_err(|_| WireError::OutOfMemory)?;
    Ok(items)
}

/// Room for so many more, and, as `Vec` has it, some beyond.
pub(super) fn reserve<T>(items: &mut Vec<T>, more: usize) -> Result<(), WireError> {
    items.try_reserve(more).map_err(|_| WireError::OutOfMemory)
}

/// One more at the end.
pub(super) fn push<T>(items: &mut Vec<T>, item: T) -> Result<(), WireError> {
    reserve(items, 1)?;
    items.push(item);
    Ok(())
}
