//! The body of a call: [`RequestRef`] reads it, [`request`] writes it.

use super::args::{EncodeArgs, EncodeKwargs};
use super::decoder::fields;
use super::view::{DictRef, ListRef};
use super::{Encoder, Resolve, ValueRef, WireError};

/// A call, read in place. One pass over the body, no allocation.
#[derive(Clone, Copy, Debug)]
pub struct RequestRef<'a> {
    /// Whom it is for.
    pub app: &'a str,
    /// What it shall do.
    pub action: &'a str,
    /// The arguments by position.
    pub args: ListRef<'a>,
    /// The arguments by name.
    pub kwargs: DictRef<'a>,
}

impl<'a> RequestRef<'a> {
    /// Reads a REQUEST's body. A key that is missing or `None` has gunicorn's default (nothing of its type), an
    /// unknown key is ignored, order does not matter, and no key can say something else than the header.
    ///
    /// # Errors
    /// As [`decode`](super::decode), and fields of a wrong type.
    pub fn decode(body: &'a [u8], refs: &'a dyn Resolve) -> Result<RequestRef<'a>, WireError> {
        let [mut app, mut action, mut args, mut kwargs] = [ValueRef::None; 4];
        fields(body, refs, |key, value| match key {
            "app_path" => app = value,
            "action" => action = value,
            "args" => args = value,
            "kwargs" => kwargs = value,
            _ => {}
        })?;
        Ok(RequestRef {
            app: text("app_path", app, "")?,
            action: text("action", action, "")?,
            args: match args {
                ValueRef::None => ListRef::EMPTY,
                ValueRef::List(list) => list,
                other => return Err(wrong("args", "a list", other)),
            },
            kwargs: dict("kwargs", kwargs)?,
        })
    }
}

/// Writes a REQUEST's body, with the keys in gunicorn's order.
///
/// # Errors
/// Those of the [`Encoder`], and arguments that write something else than one list and one dict.
pub fn request(
    app: &str,
    action: &str,
    args: &(impl EncodeArgs + ?Sized),
    kwargs: &(impl EncodeKwargs + ?Sized),
    e: &mut Encoder<'_>,
) -> Result<(), WireError> {
    e.dict(4)?;
    e.key("app_path")?;
    e.str(app)?;
    e.key("action")?;
    e.str(action)?;
    e.key("args")?;
    args.encode_args(e)?;
    e.key("kwargs")?;
    kwargs.encode_kwargs(e)?;
    e.close()
}

/// A field that is a string, or absent.
pub(super) fn text<'a>(
    name: &'static str,
    value: ValueRef<'a>,
    default: &'a str,
) -> Result<&'a str, WireError> {
    match value {
        ValueRef::None => Ok(default),
        ValueRef::Str(text) => Ok(text),
        other => Err(wrong(name, "a string", other)),
    }
}

/// A field that is a dict, or absent.
pub(super) fn dict<'a>(name: &'static str, value: ValueRef<'a>) -> Result<DictRef<'a>, WireError> {
    match value {
        ValueRef::None => Ok(DictRef::EMPTY),
        ValueRef::Dict(dict) => Ok(dict),
        other => Err(wrong(name, "a dict", other)),
    }
}

pub(super) fn wrong(name: &'static str, expected: &'static str, found: ValueRef<'_>) -> WireError {
    WireError::Field { name, expected, found: found.type_name() }
}
