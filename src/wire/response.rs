//! The bodies of replies: [`ResponseRef`] reads RESPONSE, ERROR, CHUNK and END; [`response`], [`error`] and
//! [`chunk`] write them.

use super::decoder::{Reader, fields};
use super::request::{dict, text};
use super::view::DictRef;
use super::{Encode, Encoder, Kind, Resolve, Value, ValueRef, WireError};

/// Reads replies.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRef;

/// What a reply frame says.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The result of a call.
    Result(ValueRef<'a>),
    /// The error that ends a call or a stream.
    Error(ErrorRef<'a>),
    /// An item of a stream.
    Chunk(ValueRef<'a>),
    /// The end of a stream.
    End,
}

/// An ERROR, read in place.
#[derive(Clone, Copy, Debug)]
pub struct ErrorRef<'a> {
    /// The class by name: one of gunicorn's, or any other.
    pub class: &'a str,
    /// What happened, for people.
    pub message: &'a str,
    /// The app, empty if not said.
    pub app: &'a str,
    /// The action, empty if not said.
    pub action: &'a str,
    /// The traceback, empty if not said.
    pub traceback: &'a str,
    /// All details: these three and others (`timeout`, `worker_id`, …).
    pub details: DictRef<'a>,
}

impl ResponseRef {
    /// Reads the body of a reply of this kind. Missing keys have gunicorn's defaults, unknown ones are
    /// ignored.
    ///
    /// # Errors
    /// As [`decode`](super::decode), fields of a wrong type, and a kind that is no reply. The body of an END
    /// is not looked at: gunicorn's client accepts any.
    #[inline]
    pub fn decode<'a>(kind: Kind, body: &'a [u8], refs: &'a dyn Resolve) -> Result<Outcome<'a>, WireError> {
        match kind {
            Kind::Response => Ok(Outcome::Result(match in_order(RESULT, body, refs) {
                Some(result) => result,
                None => field(body, refs, "result")?,
            })),
            Kind::Chunk | Kind::Started => Ok(Outcome::Chunk(match in_order(DATA, body, refs) {
                Some(data) => data,
                None => field(body, refs, "data")?,
            })),
            Kind::Error => ErrorRef::decode(body, refs).map(Outcome::Error),
            Kind::End => Ok(Outcome::End),
            other => Err(WireError::NotAReply(other.code())),
        }
    }

    /// The result in the body of a RESPONSE that [`decode`](ResponseRef::decode) has accepted, without walking it once
    /// more. Of a body that was not accepted it lends something, or fails.
    ///
    /// # Errors
    /// Those of `decode`; only if the body, or the mind of `refs`, has changed since.
    #[inline]
    pub fn result_again<'a>(body: &'a [u8], refs: &'a dyn Resolve) -> Result<ValueRef<'a>, WireError> {
        match ValueRef::behind(RESULT, body, refs) {
            Some(value) => value,
            None => field(body, refs, "result"),
        }
    }

    /// The same of the item in the body of a CHUNK.
    ///
    /// # Errors
    /// As [`result_again`](ResponseRef::result_again).
    #[inline]
    pub fn item_again<'a>(body: &'a [u8], refs: &'a dyn Resolve) -> Result<ValueRef<'a>, WireError> {
        match ValueRef::behind(DATA, body, refs) {
            Some(value) => value,
            None => field(body, refs, "data"),
        }
    }
}

/// What stands before an item.
const DATA: &[u8] = b"\x21\0\0\0\x01\x11\0\0\0\x04data";
/// What stands before a result, as every encoder writes it: the dict's head and its one key.
pub(super) const RESULT: &[u8] = b"\x21\0\0\0\x01\x11\0\0\0\x06result";

impl<'a> ErrorRef<'a> {
    /// Reads an ERROR's body.
    ///
    /// # Errors
    /// As [`ResponseRef::decode`].
    pub fn decode(body: &'a [u8], refs: &'a dyn Resolve) -> Result<ErrorRef<'a>, WireError> {
        let [mut class, mut message, mut details] = [ValueRef::None; 3];
        for pair in dict("error", field(body, refs, "error")?)? {
            match pair? {
                ("error_type", value) => class = value,
                ("message", value) => message = value,
                ("details", value) => details = value,
                _ => {}
            }
        }
        let details = dict("details", details)?;
        let [mut app, mut action, mut traceback] = [ValueRef::None; 3];
        for pair in details {
            match pair? {
                ("app_path", value) => app = value,
                ("action", value) => action = value,
                ("traceback", value) => traceback = value,
                _ => {}
            }
        }
        Ok(ErrorRef {
            class: text("error_type", class, "DirtyError")?,
            message: text("message", message, "Unknown error")?,
            app: text("app_path", app, "")?,
            action: text("action", action, "")?,
            traceback: text("traceback", traceback, "")?,
            details,
        })
    }
}

/// What an ERROR says besides class and message. Empty texts are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorDetails<'a> {
    /// The app.
    pub app: &'a str,
    /// The action.
    pub action: &'a str,
    /// The traceback.
    pub traceback: &'a str,
    /// Further pairs, written after these.
    pub more: &'a [(&'a str, Value)],
}

/// Writes a RESPONSE's body.
///
/// # Errors
/// Those of the [`Encoder`] and of `result`.
pub fn response(result: &(impl Encode + ?Sized), e: &mut Encoder<'_>) -> Result<(), WireError> {
    one(RESULT, result, e)
}

/// Writes a CHUNK's body.
///
/// # Errors
/// Those of the [`Encoder`] and of `data`.
pub fn chunk(data: &(impl Encode + ?Sized), e: &mut Encoder<'_>) -> Result<(), WireError> {
    one(DATA, data, e)
}

/// Writes an ERROR's body, with the keys in gunicorn's order.
///
/// # Errors
/// Those of the [`Encoder`].
pub fn error(
    class: &str,
    message: &str,
    details: &ErrorDetails<'_>,
    e: &mut Encoder<'_>,
) -> Result<(), WireError> {
    let texts = [("app_path", details.app), ("action", details.action), ("traceback", details.traceback)];
    let said = || texts.iter().filter(|(_, text)| !text.is_empty());
    e.dict(1)?;
    e.key("error")?;
    e.dict(3)?;
    e.key("error_type")?;
    e.str(class)?;
    e.key("message")?;
    e.str(message)?;
    e.key("details")?;
    e.dict(said().count() + details.more.len())?;
    for (key, text) in said() {
        e.key(key)?;
        e.str(text)?;
    }
    for (key, value) in details.more {
        e.key(key)?;
        value.encode(e)?;
    }
    e.close()
}

fn one(key: &[u8], value: &(impl Encode + ?Sized), e: &mut Encoder<'_>) -> Result<(), WireError> {
    e.message(0, 1)?;
    e.field(1, key)?;
    value.encode(e)?;
    e.close()
}

/// The value of a body that is laid out as every encoder does it, with this before it. `None` for anything else, faults
/// included: those are for [`field`] to find and to name.
#[inline(always)] // `before` is compared as what is known when this is compiled
fn in_order<'a>(before: &[u8], body: &'a [u8], refs: &'a dyn Resolve) -> Option<ValueRef<'a>> {
    let mut reader = Reader::inside(body, refs);
    let value = reader.field(before)?;
    reader.finish().ok()?;
    Some(value)
}

/// The value of one key of a message, `None` if it is missing.
fn field<'a>(body: &'a [u8], refs: &'a dyn Resolve, name: &str) -> Result<ValueRef<'a>, WireError> {
    let mut found = ValueRef::None;
    fields(body, refs, |key, value| {
        if key == name {
            found = value;
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NoReferences;

    #[test]
    fn the_short_ways_and_the_long_way_read_the_same() {
        let result: Value = (1, "x", (2, b"y")).into();
        let mut body = Vec::new();
        response(&result, &mut Encoder::to_vec(&mut body)).unwrap();
        let long = field(&body, &NoReferences, "result");
        assert_eq!(Ok(in_order(RESULT, &body, &NoReferences).expect("our own order")), long);
        assert_eq!(ResponseRef::result_again(&body, &NoReferences), long);
        for at in 0..body.len() {
            assert!(in_order(RESULT, &body[..at], &NoReferences).is_none());
            let mut damaged = body.clone();
            damaged[at] ^= 1;
            let long = field(&damaged, &NoReferences, "result");
            if let Some(short) = in_order(RESULT, &damaged, &NoReferences) {
                assert_eq!(Ok(short), long, "byte {at}");
                assert_eq!(ResponseRef::result_again(&damaged, &NoReferences), long, "byte {at}");
            }
        }
    }

    #[test]
    fn an_item_is_read_as_a_result_is() {
        let mut body = Vec::new();
        chunk(&(7, "coal"), &mut Encoder::to_vec(&mut body)).unwrap();
        let long = field(&body, &NoReferences, "data");
        assert_eq!(Ok(in_order(DATA, &body, &NoReferences).expect("our own order")), long);
        assert_eq!(ResponseRef::item_again(&body, &NoReferences), long);
        assert!(in_order(RESULT, &body, &NoReferences).is_none());
    }

    #[test]
    fn a_result_may_stand_behind_other_keys() {
        let mut body = Vec::new();
        let mut e = Encoder::to_vec(&mut body);
        e.dict(2).and_then(|()| e.key("id")).and_then(|()| e.int(7)).unwrap();
        e.key("result").and_then(|()| e.str("coal")).unwrap();
        assert!(in_order(RESULT, &body, &NoReferences).is_none());
        assert_eq!(ResponseRef::result_again(&body, &NoReferences), Ok(ValueRef::Str("coal")));
    }
}
