//! What went wrong in a function of the interface, until it has become a status and perhaps an error object.

use crate::status::*;
use std::any::Any;
use std::borrow::Cow;

/// What every checked step in here returns.
pub(crate) type Checked<T> = Result<T, Fault>;

/// Built on every failure, also where nobody asks for its text: the text is put together last.
pub(crate) enum Fault {
    /// Something of this interface's own.
    Here(stk_status, Cow<'static, str>),
    /// Something that the crate says.
    There(stokehold::Error),
}

impl Fault {
    pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Fault {
        Fault::Here(STK_INVALID, why.into())
    }

    pub(crate) fn status(&self) -> stk_status {
        match self {
            Fault::Here(status, _) => *status,
            Fault::There(error) => error.code() as u32,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Fault::Here(_, why) => why.to_string(),
            Fault::There(error) => error.to_string(),
        }
    }

    /// A panic of this library's.
    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Fault {
        let text = payload.downcast::<&str>().map(|text| text.to_string());
        let text = text.or_else(|payload| payload.downcast::<String>().map(|text| *text));
        let text = text.unwrap_or_else(|payload| {
            std::mem::forget(payload); // whatever it is: dropping it may panic again
            "no text".to_owned()
        });
        Fault::Here(STK_PANIC, format!("the library panicked: {text}").into())
    }
}

impl From<stokehold::Error> for Fault {
    fn from(error: stokehold::Error) -> Fault {
        Fault::There(error)
    }
}

impl From<stokehold::WireError> for Fault {
    fn from(error: stokehold::WireError) -> Fault {
        Fault::There(error.into())
    }
}
