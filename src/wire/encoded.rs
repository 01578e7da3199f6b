//! [`Encoded`]: a value that is its bytes already. A message of such values is nothing but copies of them between its
//! keys: there is nothing left to count.

use super::tlv::{self, code};
use super::{request, response};
use crate::limits::{MAX_DEPTH, MAX_MESSAGE, MAX_NODES};

/// One whole value without references, and how large it is: how many values it has with those in it, and in how many
/// levels of containers.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) nodes: usize,
    pub(super) height: usize,
}

impl Encoded<'static> {
    /// A list without elements.
    pub(super) const EMPTY_LIST: Encoded<'static> =
        Encoded { bytes: &[code::LIST, 0, 0, 0, 0], nodes: 1, height: 1 };
    /// A dict without pairs.
    pub(super) const EMPTY_DICT: Encoded<'static> =
        Encoded { bytes: &[code::DICT, 0, 0, 0, 0], nodes: 1, height: 1 };
}

/// What [`request`](super::request()) writes of such arguments, at the begin of `place`: how much it is. `None` if it
/// has no room there or is over a limit: then that one finds which, or the room.
#[inline]
pub fn request_of(
    app: &str,
    action: &str,
    args: Encoded<'_>,
    kwargs: Encoded<'_>,
    place: &mut [u8],
) -> Option<usize> {
    let [app_key, action_key, args_key, kwargs_key] = request::KEYS;
    let nodes = 3 + args.nodes + kwargs.nodes; // the message itself, app and action
    let mut message = Message::begin(nodes, args.height.max(kwargs.height), place)?;
    message.put(app_key)?;
    message.put(&tlv::head(code::STR, app.len()))?;
    message.put(app.as_bytes())?;
    message.put(action_key)?;
    message.put(&tlv::head(code::STR, action.len()))?;
    message.put(action.as_bytes())?;
    message.put(args_key)?;
    message.put(args.bytes)?;
    message.put(kwargs_key)?;
    message.put(kwargs.bytes)?;
    Some(message.len())
}

/// The same for what [`response`](super::response()) writes.
#[inline]
pub fn response_of(result: Encoded<'_>, place: &mut [u8]) -> Option<usize> {
    let mut message = Message::begin(1 + result.nodes, result.height, place)?;
    message.put(response::RESULT)?;
    message.put(result.bytes)?;
    Some(message.len())
}

struct Message<'p> {
    whole: usize,
    rest: &'p mut [u8],
}

impl<'p> Message<'p> {
    /// One that has so many values, in so many levels below its own.
    #[inline]
    fn begin(nodes: usize, height: usize, place: &'p mut [u8]) -> Option<Message<'p>> {
        let fits = nodes <= MAX_NODES && height < MAX_DEPTH && place.len() <= MAX_MESSAGE;
        fits.then_some(Message { whole: place.len(), rest: place })
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (place, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len())?;
        place.copy_from_slice(bytes);
        self.rest = rest;
        Some(())
    }

    #[inline]
    fn len(&self) -> usize {
        self.whole - self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Draft, Encode, EncodeArgs, EncodeKwargs, Encoder};

    const ROOM: usize = 512;

    fn list_of(nones: usize) -> Draft {
        let mut list = Draft::list();
        (0..nones).for_each(|_| list.none().unwrap());
        list.end().unwrap();
        list
    }

    fn nested(depth: usize) -> Draft {
        let mut lists = Draft::list();
        (1..depth).for_each(|_| lists.begin_list().unwrap());
        (0..depth).for_each(|_| lists.end().unwrap());
        lists
    }

    /// By copies, and by the encoder: the same, or nothing.
    fn both(args: &Draft, kwargs: impl EncodeKwargs, room: usize) -> Option<usize> {
        let (mut copied, mut counted) = (vec![0; room], vec![0; room]);
        let (a, k) = (args.encoded_args().unwrap(), kwargs.encoded_kwargs().unwrap());
        let len = request_of("boiler:Boiler", "feed", a, k, &mut copied);
        let mut e = Encoder::new(&mut counted);
        let encoded = request::request("boiler:Boiler", "feed", args, &kwargs, &mut e);
        assert_eq!(len, encoded.ok().and_then(|()| e.finish().ok()));
        assert_eq!(copied[..len.unwrap_or(0)], counted[..len.unwrap_or(0)]);
        len
    }

    #[test]
    fn the_same_bytes_as_from_the_encoder() {
        let mut args = Draft::list();
        args.str("coal").unwrap();
        args.begin_dict().unwrap();
        args.key("tonnes").unwrap();
        args.put(&(12, 0.5)).unwrap();
        (0..2).for_each(|_| args.end().unwrap());
        let mut named = Draft::dict();
        named.key("k").unwrap();
        named.bytes(b"v").unwrap();
        named.end().unwrap();
        assert!(both(&args, (), ROOM).is_some());
        assert!(both(&args, None::<Draft>, ROOM).is_some());
        let len = both(&args, &named, ROOM).unwrap();
        assert_eq!(both(&args, Some(&named), len), Some(len));
        (0..len).for_each(|short| assert_eq!(both(&args, Some(&named), short), None));

        let (mut copied, mut counted) = (vec![0; ROOM], vec![0; ROOM]);
        let mut e = Encoder::new(&mut counted);
        response::response(&args, &mut e).unwrap();
        let len = e.finish().unwrap();
        assert_eq!(response_of(args.encoded().unwrap(), &mut copied), Some(len));
        assert_eq!(copied[..len], counted[..len]);
        assert_eq!(response_of(args.encoded().unwrap(), &mut copied[..len - 1]), None);
    }

    #[test]
    fn the_same_limits() {
        assert!(both(&nested(MAX_DEPTH - 1), (), 1 << 12).is_some());
        assert_eq!(both(&nested(MAX_DEPTH), (), 1 << 12), None);
        if cfg!(miri) {
            return;
        }
        // Message, app, action, kwargs and the list itself.
        assert!(both(&list_of(1000), (), 1 << 12).is_some());
        let most = Encoded { nodes: MAX_NODES - 4, ..Encoded::EMPTY_LIST };
        let more = Encoded { nodes: MAX_NODES - 3, ..Encoded::EMPTY_LIST };
        assert!(request_of("a", "b", most, Encoded::EMPTY_DICT, &mut [0; ROOM]).is_some());
        assert!(request_of("a", "b", more, Encoded::EMPTY_DICT, &mut [0; ROOM]).is_none());
    }

    #[test]
    fn what_is_no_whole_value_is_none() {
        assert!(Draft::new().encoded().is_none(), "nothing: the encoder writes None for it");
        assert!(Draft::list().encoded().is_none(), "not ended");
        assert!(list_of(1).encoded_kwargs().is_none(), "a list is no dict");
        let mut late = Draft::list();
        late.put_late(std::sync::Arc::new(7)).unwrap();
        late.end().unwrap();
        assert!(late.encoded_args().is_none());
    }
}
