//! What went wrong in a function of the interface, until it has become a status and perhaps an error object.

use crate::status::*;
use std::any::Any;
use std::borrow::Cow;
use std::ops::Deref;
use stokehold::WireError;

/// What every checked step in here returns.
pub(crate) type Checked<T> = Result<T, Fault>;

/// Built on every failure, also where nobody asks for its text: the text is put together last. One word, so that a step
/// that went well hands on nothing but that.
pub(crate) struct Fault(Box<What>);

/// Whose it is.
pub(crate) enum What {
    /// Something of this interface's own.
    Here(stk_status, Cow<'static, str>),
    /// Something that the crate says.
    There(stokehold::Error),
}

impl Fault {
    #[cold]
    pub(crate) fn here(status: stk_status, why: impl Into<Cow<'static, str>>) -> Fault {
        Fault(Box::new(What::Here(status, why.into())))
    }

    #[cold]
    pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Fault {
        Fault::here(STK_INVALID, why)
    }

    pub(crate) fn what(self) -> What {
        *self.0
    }

    /// What a draft says of a piece that was put into it.
    #[cold]
    pub(crate) fn refused(error: WireError) -> Fault {
        match error {
            WireError::Misplaced(why) => Fault::invalid(why),
            limit => Fault::here(STK_BAD_REQUEST, limit.to_string()),
        }
    }

    /// What a draft says of a key.
    #[cold]
    pub(crate) fn refused_key(error: WireError, key: &str) -> Fault {
        match error {
            WireError::Misplaced(why) => Fault::invalid(format!("{why}: {key:?}")),
            limit => Fault::refused(limit),
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
        Fault::here(STK_PANIC, format!("the library panicked: {text}"))
    }
}

impl Deref for Fault {
    type Target = What;

    fn deref(&self) -> &What {
        &self.0
    }
}

impl What {
    pub(crate) fn status(&self) -> stk_status {
        match self {
            What::Here(status, _) => *status,
            What::There(error) => error.code() as u32,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            What::Here(_, why) => why.to_string(),
            What::There(error) => error.to_string(),
        }
    }
}

impl From<stokehold::Error> for Fault {
    #[cold]
    fn from(error: stokehold::Error) -> Fault {
        Fault(Box::new(What::There(error)))
    }
}

impl From<WireError> for Fault {
    #[cold]
    fn from(error: WireError) -> Fault {
        stokehold::Error::from(error).into()
    }
}
