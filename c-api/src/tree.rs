//! Values being put together, for arguments and replies alike: a flat list of nodes in the order in which they are
//! encoded, and the bytes of all of them in one piece.

use crate::fault::{Checked, Fault};
use crate::status::STK_BAD_REQUEST;
use smallvec::SmallVec;
use std::sync::Arc;
use stokehold::{Encode, Encoder, Lease, WireError};

/// Values in the order in which they were put in; lists and dicts before what they hold.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: SmallVec<[Node; 4]>,
    bytes: SmallVec<[u8; 128]>,
    /// The lists and dicts that are open, outermost first.
    open: Vec<Open>,
    /// Values at the top.
    roots: usize,
}

enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Span),
    Bytes(Span),
    Lease(Arc<Lease>),
    List(u32),
    Dict(u32),
    Key(Span),
}

/// Where text or bytes lie among all bytes of the tree.
struct Span {
    begin: u32,
    end: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

struct Open {
    node: usize,
    len: u32,
    /// Whether a key waits for its value; `None` in a list.
    keyed: Option<bool>,
}

impl Tree {
    /// How many values there are at the top.
    pub(crate) fn roots(&self) -> usize {
        self.roots
    }

    /// How many lists and dicts are open.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Whether a key in the innermost dict has no value yet.
    pub(crate) fn awaits_value(&self) -> bool {
        matches!(self.open.last(), Some(Open { keyed: Some(true), .. }))
    }

    pub(crate) fn none(&mut self) -> Checked<()> {
        self.value(Node::None)
    }

    pub(crate) fn bool(&mut self, value: bool) -> Checked<()> {
        self.value(Node::Bool(value))
    }

    pub(crate) fn i64(&mut self, value: i64) -> Checked<()> {
        self.value(Node::Int(value))
    }

    pub(crate) fn f64(&mut self, value: f64) -> Checked<()> {
        self.value(Node::Float(value))
    }

    pub(crate) fn str(&mut self, value: &str) -> Checked<()> {
        let span = self.copy(value.as_bytes())?;
        self.value(Node::Str(span))
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> Checked<()> {
        let span = self.copy(value)?;
        self.value(Node::Bytes(span))
    }

    pub(crate) fn lease(&mut self, lease: Arc<Lease>) -> Checked<()> {
        self.value(Node::Lease(lease))
    }

    pub(crate) fn begin_list(&mut self) -> Checked<()> {
        self.value(Node::List(0))?;
        self.open.push(Open { node: self.nodes.len() - 1, len: 0, keyed: None });
        Ok(())
    }

    pub(crate) fn begin_dict(&mut self) -> Checked<()> {
        self.value(Node::Dict(0))?;
        self.open.push(Open { node: self.nodes.len() - 1, len: 0, keyed: Some(false) });
        Ok(())
    }

    /// The key of the next pair of the dict that is open.
    pub(crate) fn key(&mut self, key: &str) -> Checked<()> {
        match self.open.last_mut() {
            Some(Open { keyed: Some(keyed @ false), .. }) => *keyed = true,
            Some(Open { keyed: Some(true), .. }) => {
                return Err(Fault::invalid(format!("the key {key:?} follows a key that has no value yet")));
            }
            _ => return Err(Fault::invalid(format!("the key {key:?} stands outside of a dict"))),
        }
        let span = self.copy(key.as_bytes())?;
        self.nodes.push(Node::Key(span));
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Checked<()> {
        let innermost =
            self.open.pop().ok_or_else(|| Fault::invalid("an end without a list or a dict that is open"))?;
        if innermost.keyed == Some(true) {
            self.open.push(innermost);
            return Err(Fault::invalid("the dict ends with a key that has no value"));
        }
        match &mut self.nodes[innermost.node] {
            Node::List(count) | Node::Dict(count) => *count = innermost.len,
            _ => unreachable!("only lists and dicts are opened"),
        }
        Ok(())
    }

    fn value(&mut self, node: Node) -> Checked<()> {
        self.slot()?;
        self.nodes.push(node);
        Ok(())
    }

    /// Takes the place of a value.
    fn slot(&mut self) -> Checked<()> {
        match self.open.last_mut() {
            None => self.roots += 1,
            Some(Open { keyed: Some(false), .. }) => {
                return Err(Fault::invalid("a value without a key in a dict"));
            }
            Some(open) => {
                open.len += 1;
                open.keyed = open.keyed.map(|_| false);
            }
        }
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Checked<Span> {
        let (begin, end) = (self.bytes.len(), self.bytes.len() + bytes.len());
        if end > MOST_BYTES {
            return Err(Fault::Here(
                STK_BAD_REQUEST,
                format!("more than {MOST_BYTES} bytes of text and bytes").into(),
            ));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(Span { begin: begin as u32, end: end as u32 })
    }

    fn at(&self, span: &Span) -> &[u8] {
        &self.bytes[span.begin as usize..span.end as usize]
    }

    /// All values at the top, one after another.
    pub(crate) fn encode_all(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        for node in &self.nodes {
            match node {
                Node::None => e.none()?,
                Node::Bool(value) => e.bool(*value)?,
                Node::Int(value) => e.int(*value)?,
                Node::Float(value) => e.float(*value)?,
                Node::Str(span) => e.str(self.text(span))?,
                Node::Bytes(span) => e.bytes(self.at(span))?,
                Node::Lease(lease) => lease.encode(e)?,
                Node::List(count) => e.list(*count as usize)?,
                Node::Dict(pairs) => e.dict(*pairs as usize)?,
                Node::Key(span) => e.key(self.text(span))?,
            }
        }
        Ok(())
    }

    fn text(&self, span: &Span) -> &str {
        // It came in as a `str`; to look again costs less than to promise it.
        std::str::from_utf8(self.at(span)).unwrap_or_default()
    }
}

/// What fits into one message, and into a span.
const MOST_BYTES: usize = 1 << 30;

/// The one value at the top; nothing is none.
impl Encode for Tree {
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        if self.roots == 0 { e.none() } else { self.encode_all(e) }
    }
}
