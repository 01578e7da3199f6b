//! The body of a call: [`RequestRef`] reads it, [`request`] writes it.

use super::args::{EncodeArgs, EncodeKwargs};
use super::decoder::{Reader, fields};
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
    /// Reads a REQUEST's body. A key that is missing or `None` has gunicorn's default (nothing of its type),
    /// an unknown key is ignored, order does not matter, and no key can say something else than the header.
    ///
    /// # Errors
    /// As [`decode`](super::decode), and fields of a wrong type.
    pub fn decode(body: &'a [u8], refs: &'a dyn Resolve) -> Result<RequestRef<'a>, WireError> {
        let [app, action, args, kwargs] = match in_order(body, refs) {
            Some(fields) => fields,
            None => in_any_order(body, refs)?,
        };
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

/// The four fields of a body that is laid out as every encoder does it: then keys are compared, not parsed.
/// `None` for anything else, faults included: those are for [`in_any_order`] to find and to name.
fn in_order<'a>(body: &'a [u8], refs: &'a dyn Resolve) -> Option<[ValueRef<'a>; 4]> {
    let mut reader = Reader::inside(body, refs);
    let [app, action, args, kwargs] = KEYS;
    let fields = [
        reader.field(app)?, // each compared with what is known when this is compiled
        reader.field(action)?,
        reader.field(args)?,
        reader.field(kwargs)?,
    ];
    reader.finish().ok()?;
    Some(fields)
}

fn in_any_order<'a>(body: &'a [u8], refs: &'a dyn Resolve) -> Result<[ValueRef<'a>; 4], WireError> {
    let [mut app, mut action, mut args, mut kwargs] = [ValueRef::None; 4];
    fields(body, refs, |key, value| match key {
        "app_path" => app = value,
        "action" => action = value,
        "args" => args = value,
        "kwargs" => kwargs = value,
        _ => {}
    })?;
    Ok([app, action, args, kwargs])
}

/// What stands before the values, when the four keys come in gunicorn's order: the first with the dict's
/// head.
pub(super) const KEYS: [&[u8]; 4] = [
    b"\x21\0\0\0\x04\x11\0\0\0\x08app_path",
    b"\x11\0\0\0\x06action",
    b"\x11\0\0\0\x04args",
    b"\x11\0\0\0\x06kwargs",
];

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
    let [app_key, action_key, args_key, kwargs_key] = KEYS;
    e.message(2, 2)?;
    e.text(app_key, app)?;
    e.text(action_key, action)?;
    e.field(2, args_key)?;
    args.encode_args(e)?;
    e.field(1, kwargs_key)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_DEPTH, MAX_NODES};
    use crate::wire::{NoReferences, Value};

    fn body(args: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        request("m:C", "f", std::slice::from_ref(args), &[("k", 1)], &mut Encoder::to_vec(&mut out)).unwrap();
        out
    }

    /// Writes this many numbers, and leaves this many lists open.
    struct Not(usize, usize);

    impl EncodeArgs for Not {
        fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            (0..self.1).try_for_each(|_| e.list(1))?;
            (0..self.0).try_for_each(|n| e.int(n as i64))
        }
    }

    impl EncodeKwargs for Not {
        fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            self.encode_args(e)
        }
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        let write =
            |args: Not, kwargs: Not| request("m:C", "f", &args, &kwargs, &mut Encoder::new(&mut [0; 99]));
        assert_eq!(write(Not(1, 0), Not(1, 0)), Ok(()));
        for (args, kwargs) in
            [(Not(2, 0), Not(0, 0)), (Not(0, 0), Not(2, 0)), (Not(0, 1), Not(1, 0)), (Not(1, 0), Not(2, 0))]
        {
            assert_eq!(write(args, kwargs), Err(WireError::Unbalanced));
        }
        assert_eq!(write(Not(1, 0), Not(0, 0)), Err(WireError::Unbalanced));
    }

    #[test]
    fn the_short_way_and_the_long_way_read_the_same() {
        let body = body(&(1, "x", (2, b"y")).into());
        let short = in_order(&body, &NoReferences).expect("our own encoder keeps the order");
        assert_eq!(Ok(short), in_any_order(&body, &NoReferences));
        for at in 0..body.len() {
            assert!(in_order(&body[..at], &NoReferences).is_none());
            let mut damaged = body.clone();
            damaged[at] ^= 1;
            if let Some(short) = in_order(&damaged, &NoReferences) {
                assert_eq!(Ok(short), in_any_order(&damaged, &NoReferences), "byte {at}");
            }
        }
    }

    #[test]
    fn the_short_way_has_the_same_limits() {
        let lists = |depth| (1..depth).fold(Value::List(vec![]), |inner, _| Value::List(vec![inner]));
        // The payload and the arguments are two levels.
        let mut deepest = body(&lists(MAX_DEPTH - 2));
        assert!(in_order(&deepest, &NoReferences).is_some());
        // One level more: the innermost list's count becomes 1, and an empty list follows.
        let at = deepest.windows(5).rposition(|five| five == [0x20, 0, 0, 0, 0]).expect("the innermost");
        deepest[at + 4] = 1;
        deepest.splice(at + 5..at + 5, [0x20, 0, 0, 0, 0]);
        assert!(in_order(&deepest, &NoReferences).is_none());
        assert!(matches!(in_any_order(&deepest, &NoReferences), Err(WireError::TooDeep { .. })));
        if cfg!(miri) {
            return;
        }
        // payload, app, action, args, its list, kwargs, its value: 7, and four lists
        let nones = |n: usize| Value::List(vec![Value::None; n]);
        let quarter = (MAX_NODES - 11) / 4;
        let full = [quarter, quarter, quarter, MAX_NODES - 11 - 3 * quarter].map(nones);
        let mut most = body(&Value::List(full.into()));
        assert!(in_order(&most, &NoReferences).is_some());
        let kwargs = most.len() - 9;
        most.splice(kwargs.., [0x20, 0, 0, 0, 1, 0]);
        assert!(in_order(&most, &NoReferences).is_none());
        assert_eq!(in_any_order(&most, &NoReferences), Err(WireError::TooManyValues));
    }
}
