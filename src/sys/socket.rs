//! Unix stream sockets: bytes, and descriptors that travel with them.
//!
//! A descriptor is attached to the bytes it was sent with and arrives with the first of them. The kernel drops it
//! without a word to the sender if the receiver has no room for it; the receiver finds
//! [`Received::truncated`] set, and that connection is not to be trusted with hand-overs any more.

use super::{last, named, retry};
use crate::error::{Error, Result};
use crate::limits::MAX_FRAME_FDS;
use nix::errno::Errno;
use nix::sys::socket::{self as nix_socket, AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{getsockopt, setsockopt, socketpair, sockopt};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::IoSlice;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// What one [`recv`] brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer were filled; zero at the end of the stream.
    pub bytes: usize,
    /// The descriptors that came with them, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Descriptors were lost: there were more than [`MAX_FRAME_FDS`], or this process may not have as many.
    pub truncated: bool,
}

/// Who is at the other end, as of when it connected or made the pair.
///
/// Both ends of a [`pair`] show its *creator*, whoever holds them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process number, zero if the peer is not visible from here.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// Two connected stream sockets without a name. See `socketpair(2)` and `unix(7)`.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(named("socketpair"))
}

/// A socket that listens under a name in the file system, which must be free; only this user can connect, from the first
/// moment on: the rights are set before the name is there. Does not block. See `bind(2)` and `unix(7)`.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let address = UnixAddr::new(path).map_err(named("bind"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd =
        nix_socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(named("socket"))?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(named("fchmod"))?;
    nix_socket::bind(fd.as_raw_fd(), &address).map_err(named("bind"))?;
    nix_socket::listen(&fd, Backlog::MAXCONN).map_err(named("listen"))?;
    Ok(fd)
}

/// The next connection of a socket that listens, not blocking either; `None` if there is none. See `accept(2)`.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    loop {
        match nix_socket::accept4(listener.as_raw_fd(), flags) {
            // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
            Ok(fd) => return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(named("accept4")(errno)),
        }
    }
}

/// Connects to the socket at this path; the new one blocks. A path of more than the 107 bytes that an address holds
/// is gone to through a handle.
///
/// ETIMEDOUT when the listener does not take the connection in time. See `connect(2)`.
pub fn connect(path: &Path, timeout: Duration) -> Result<OwnedFd> {
    let handle;
    let address = match UnixAddr::new(path) {
        Err(Errno::ENAMETOOLONG) => {
            handle = super::dir::handle(path)?;
            UnixAddr::new(format!("/proc/self/fd/{}", handle.as_raw_fd()).as_str())
        }
        other => other,
    };
    let address = address.map_err(named("connect"))?;
    let fd = nix_socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(named("socket"))?;
    let limit = |time| setsockopt(&fd, sockopt::SendTimeout, &time).map_err(named("setsockopt(SO_SNDTIMEO)"));
    let until = super::clock::Remaining::of(Some(timeout));
    loop {
        let left = until.left().unwrap_or_default().max(Duration::from_millis(1));
        limit(TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(i64::MAX)))?;
        match nix_socket::connect(fd.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Error::os("connect", libc::ETIMEDOUT)),
            Err(errno) => return Err(named("connect")(errno)),
        }
    }
    limit(TimeVal::zero())?;
    Ok(fd)
}

/// Sends bytes, and at most [`MAX_FRAME_FDS`] descriptors along with the first of them.
///
/// Answers how many bytes the kernel took, which may be fewer than there are: the descriptors have gone then, and
/// must not be sent again with the rest. `None` if it would block. Descriptors cannot travel without a byte.
/// A peer that is gone is EPIPE, and no signal. See `sendmsg(2)` and `SCM_RIGHTS` in `unix(7)`.
pub fn send(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<Option<usize>> {
    transmit(fd, bufs, fds, 0)
}

/// As [`send`], but does not wait, whatever the socket is set to: see [`recv_now`].
pub fn send_now(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<Option<usize>> {
    transmit(fd, bufs, fds, libc::MSG_DONTWAIT)
}

fn transmit(
    fd: BorrowedFd<'_>,
    bufs: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: libc::c_int,
) -> Result<Option<usize>> {
    if fds.len() > MAX_FRAME_FDS || (!fds.is_empty() && bufs.iter().all(|buf| buf.is_empty())) {
        return Err(Error::os("sendmsg", libc::EINVAL).context(format!("{} descriptors to send", fds.len())));
    }
    let mut control = Control::new();
    let mut message = empty_message();
    message.msg_iov = bufs.as_ptr().cast_mut().cast(); // IoSlice has the layout of iovec, says its documentation
    message.msg_iovlen = bufs.len() as _;
    if !fds.is_empty() {
        control.put_rights(&mut message, fds);
    }
    would_block(retry("sendmsg", || {
        // SAFETY: `message` points to `bufs` and `control`, which outlive the call and are only read by it.
        unsafe { libc::sendmsg(fd.as_raw_fd(), &message, flags | libc::MSG_NOSIGNAL) as libc::c_long }
    }))
}

/// Receives what is there, up to the length of `buf`, and the descriptors that came with it.
///
/// `None` if it would block; zero bytes at the end of the stream. At most [`MAX_FRAME_FDS`] descriptors are
/// kept: the others are closed. A socket that is no Unix stream socket is closed at once and counts as dropped by the
/// kernel. See `recvmsg(2)`.
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<Received>> {
    Ok(receive(fd, buf, 0)?.map(Came::keep))
}

/// As [`recv`], but does not wait, whatever the socket is set to. Who has sent it to this process may have kept a copy, which
/// is the same socket to the kernel: [`set_nonblocking`] holds for both, and either may undo it.
pub fn recv_now(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<Received>> {
    Ok(receive(fd, buf, libc::MSG_DONTWAIT)?.map(Came::keep))
}

/// What one `recvmsg` brought, whatever it is.
struct Came {
    bytes: usize,
    fds: Vec<OwnedFd>,
    /// The kernel dropped some.
    cut: bool,
}

fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], flags: libc::c_int) -> Result<Option<Came>> {
    let mut control = Control::new();
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut message = empty_message();
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    let answer = would_block(retry("recvmsg", || {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        // SAFETY: `message` points to `part`, which describes `buf`, and to `control`; all outlive the call and
        // are borrowed mutably by it alone.
        unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) as libc::c_long }
    }))?;
    let Some(bytes) = answer else { return Ok(None) };
    // SAFETY: the kernel filled `message` and `control` in the call that has just succeeded, and nobody has taken
    // the descriptors from there yet.
    let fds = unsafe { take_rights(&message) };
    Ok(Some(Came { bytes, fds, cut: message.msg_flags & libc::MSG_CTRUNC != 0 }))
}

impl Came {
    fn keep(self) -> Received {
        let came = self.fds.len();
        let mut fds = self.fds;
        fds.retain(|fd| {
            let is_welcome = is_welcome(fd.as_fd());
            if !is_welcome {
                make_ready_to_close(fd.as_fd());
            }
            is_welcome
        });
        fds.drain(MAX_FRAME_FDS.min(fds.len())..).for_each(close);
        let truncated = self.cut || fds.len() < came;
        Received { bytes: self.bytes, fds, truncated }
    }
}

/// Whether this may be kept: it is no socket, or a Unix stream socket.
fn is_welcome(fd: BorrowedFd<'_>) -> bool {
    !is_hurried(fd) || is_unix_stream(fd).unwrap_or(false)
}

/// Whether this is a socket. The last close of one of a network waits for its peer if it is asked to (SO_LINGER): whoever sent it
/// could hold up who receives it. It is asked not to. If it is to be closed, then now: later it may have been asked again.
fn is_hurried(fd: BorrowedFd<'_>) -> bool {
    setsockopt(&fd, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 }).is_ok()
}

/// Closes what somebody has sent, and takes no time for it: see [`empty`].
pub fn close(fd: OwnedFd) {
    make_ready_to_close(fd.as_fd());
}

fn make_ready_to_close(fd: BorrowedFd<'_>) {
    if is_unix(fd) {
        empty(fd);
    }
}

/// Makes a Unix socket ready to be closed, where those who send to it may mean ill. What waits in it is closed with it, by who
/// closes it; and that of a network socket may take its time (SO_LINGER). So nobody can send to it any more, what
/// is there is received, and so on with each Unix socket among that. Each is closed when it is empty, before the next one.
///
/// After `MOST_EMPTIED` messages the rest is closed as it is.
pub fn empty(fd: BorrowedFd<'_>) {
    let mut within: Vec<OwnedFd> = Vec::new();
    let mut buffer = [0; 16 * 1024];
    shut(fd);
    for _ in 0..MOST_EMPTIED {
        let Some(found) = take_from(within.last().map_or(fd, AsFd::as_fd), &mut buffer) else {
            if within.pop().is_none() {
                return;
            }
            continue;
        };
        for fd in found {
            if is_hurried(fd.as_fd()) && is_unix(fd.as_fd()) {
                shut(fd.as_fd());
                within.push(fd);
            }
        }
    }
    log::debug!("a socket with more than {MOST_EMPTIED} messages in it is closed");
}

/// How many messages are taken out of a socket that is to be closed, and of those that were sent through it.
const MOST_EMPTIED: usize = 1 << 16;
/// Empty messages of a socket that keeps their borders, and errors. The end of such a one looks the same.
const MOST_NOTHING: usize = 1024;

/// Has what is sent out of band (MSG_OOB) come with the rest. Else it is dropped when it is passed by, by who receives the rest, and
/// descriptors that came with it are closed. No other kernel than a recent one knows of such on Unix sockets.
pub fn take_all_in_turn(fd: BorrowedFd<'_>) {
    let _ = setsockopt(&fd, sockopt::OobInline, &true);
}

/// Nobody can send to this socket any more, nor connect to it.
fn shut(fd: BorrowedFd<'_>) {
    take_all_in_turn(fd);
    let _ = nix_socket::shutdown(fd.as_raw_fd(), Shutdown::Read); // one without a peer has none who sends
}

/// The descriptors of the next message that waits in a socket which was [`shut`], or the next connection; `None` if there is none.
fn take_from(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<Vec<OwnedFd>> {
    if option(fd, libc::SO_ACCEPTCONN).is_ok_and(|listens| listens == Some(1)) {
        // It does not wait, though it may be set to: it was shut.
        return Some(vec![accept(fd).ok()??]);
    }
    // Of a stream no bytes are the end.
    let is_stream = is_unix_stream(fd).unwrap_or(false);
    for _ in 0..MOST_NOTHING {
        // An error that waits (of a peer that left, say) is told before what waits, and once.
        let Ok(came) = receive(fd, buffer, libc::MSG_DONTWAIT) else { continue };
        let came = came?;
        if came.bytes > 0 || !came.fds.is_empty() {
            return Some(came.fds);
        }
        if is_stream {
            return None;
        }
    }
    None
}

/// Whether calls on this socket answer `None` rather than wait. It is a state of the socket, which all processes
/// that hold it share. See `O_NONBLOCK` in `fcntl(2)`.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> Result<()> {
    let value = libc::c_int::from(nonblocking);
    // SAFETY: FIONBIO reads one int, which `value` is.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &value) };
    if answer == 0 { Ok(()) } else { Err(last("ioctl(FIONBIO)")) }
}

/// Who is at the other end. Identity of a pair's ends is known by construction only: see [`Credentials`], and
/// `SO_PEERCRED` in `unix(7)`.
pub fn peer_credentials(fd: BorrowedFd<'_>) -> Result<Credentials> {
    let found = getsockopt(&fd, sockopt::PeerCredentials).map_err(named("getsockopt(SO_PEERCRED)"))?;
    Ok(Credentials { pid: found.pid(), uid: found.uid(), gid: found.gid() })
}

/// Whether `fd` is a stream socket of the Unix family at all, or anything. See `SO_DOMAIN` and `SO_TYPE` in `socket(7)`.
pub fn is_unix_stream(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(option(fd, libc::SO_DOMAIN)? == Some(libc::AF_UNIX)
        && option(fd, libc::SO_TYPE)? == Some(libc::SOCK_STREAM))
}

fn is_unix(fd: BorrowedFd<'_>) -> bool {
    option(fd, libc::SO_DOMAIN).is_ok_and(|domain| domain == Some(libc::AF_UNIX))
}

/// Asks for buffers of `bytes` in both directions; the kernel doubles it and bounds it. See `socket(7)`.
pub fn set_buffer_sizes(fd: BorrowedFd<'_>, bytes: usize) -> Result<()> {
    setsockopt(&fd, sockopt::SndBuf, &bytes).map_err(named("setsockopt(SO_SNDBUF)"))?;
    setsockopt(&fd, sockopt::RcvBuf, &bytes).map_err(named("setsockopt(SO_RCVBUF)"))
}

/// Most descriptors that can come with one message, SCM_MAX_FD of the kernel. There is room for all of them, few as are kept: what has
/// none is closed by the kernel, which may take its time for it.
const MOST_SENT: usize = 253;
const RIGHTS_LEN: u32 = (MOST_SENT * size_of::<RawFd>()) as u32;
/// For what else may come with a message: whoever shares the socket may have asked for it (SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC).
const OTHERS_LEN: usize = 512;
// SAFETY: arithmetic on a constant.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(RIGHTS_LEN) } as usize + OTHERS_LEN;

/// Room for all that comes with a message, and one SCM_RIGHTS message of [`MOST_SENT`] descriptors.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

impl Control {
    fn new() -> Control {
        Control([MaybeUninit::zeroed(); CONTROL_LEN])
    }

    /// Attaches `fds`, at most [`MOST_SENT`], to `message`, which must not outlive `self`.
    fn put_rights(&mut self, message: &mut libc::msghdr, fds: &[BorrowedFd<'_>]) {
        let len = size_of_val(fds) as u32; // BorrowedFd has the layout of RawFd, says its documentation
        message.msg_control = self.0.as_mut_ptr().cast();
        // SAFETY: arithmetic on a length of at most RIGHTS_LEN, which the caller checked.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as _;
        // SAFETY: the buffer is aligned for a cmsghdr (asserted above) and CMSG_SPACE(len) bytes of it fit, so
        // the first header is inside; its data has room for `len` bytes, and does not overlap `fds`.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as _;
            ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), len as usize);
        }
    }
}

/// Takes possession of all descriptors that `message` carries.
///
/// # Safety
/// `message` was filled by a successful `recvmsg`, its buffers are alive, and this is the first call for it.
#[allow(clippy::unnecessary_cast, reason = "cmsg_len is narrower with musl")]
unsafe fn take_rights(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote well-formed headers (contract of this function), which the macros walk.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null or a whole header inside of the control buffer, by the macros' contract.
    while let Some(header) = unsafe { next.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && matches!(header.cmsg_type, libc::SCM_RIGHTS | SCM_PIDFD) {
            // SAFETY: the data of the message begins here and has cmsg_len - CMSG_LEN(0) bytes.
            let (data, len) =
                unsafe { (libc::CMSG_DATA(header), header.cmsg_len as usize - libc::CMSG_LEN(0) as usize) };
            for i in 0..len / size_of::<RawFd>() {
                // SAFETY: entry `i` lies within the data.
                let fd = unsafe { data.cast::<RawFd>().add(i).read_unaligned() };
                if fd < 0 {
                    continue; // a sender that is gone has no handle
                }
                // SAFETY: the kernel has just installed that descriptor for us, and the contract says that nobody has taken
                // it yet.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                // Of its sender, for whoever asked for it: that was not us.
                if header.cmsg_type == libc::SCM_RIGHTS {
                    fds.push(fd);
                }
            }
        }
        // SAFETY: `header` is one of `message`.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}

/// Beside SCM_RIGHTS the only thing that comes with a message and is a descriptor. See `unix(7)`.
const SCM_PIDFD: libc::c_int = 4;

fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr of zeroes is a valid one: no name, no parts, no control data.
    unsafe { std::mem::zeroed() }
}

/// The outcome of a call whose answer is a length, with blocking as `None`.
fn would_block(outcome: Result<libc::c_long>) -> Result<Option<usize>> {
    match outcome {
        Ok(len) => Ok(Some(len as usize)),
        Err(e) if super::errno_of(&e) == Some(libc::EAGAIN) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `None` of what is no socket.
fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> Result<Option<libc::c_int>> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let target = ptr::from_mut(&mut value).cast();
    // SAFETY: `target` is valid for the write of `len` bytes, and `len` for its own.
    let answer = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, target, &mut len) };
    if answer == 0 {
        return Ok(Some(value));
    }
    match Errno::last() {
        Errno::ENOTSOCK | Errno::EBADF => Ok(None),
        errno => Err(named("getsockopt")(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{errno_of, fd};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    fn send_one(to: &OwnedFd, fds: &[BorrowedFd<'_>]) -> Result<Option<usize>> {
        send(to.as_fd(), &[IoSlice::new(b"ab"), IoSlice::new(b"c")], fds)
    }

    /// More than `send` would.
    fn send_many(to: &OwnedFd, fds: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(fds)];
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
    }

    /// In turn where the kernel does not know of this.
    fn send_out_of_band(to: &OwnedFd, fd: RawFd) {
        let rights = [ControlMessage::ScmRights(&[fd])];
        let sent = sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::MSG_OOB, None);
        sent.map(drop).unwrap_or_else(|_| send_many(to, &[fd]));
    }

    const SO_PASSPIDFD: libc::c_int = 76;

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (a, b) = pair().unwrap();
        let null = fd::dev_null().unwrap();
        for n in 0..=MAX_FRAME_FDS {
            assert_eq!(send_one(&a, &vec![null.as_fd(); n]).unwrap(), Some(3));
            let mut buf = [0; 8];
            let received = recv(b.as_fd(), &mut buf).unwrap().unwrap();
            assert_eq!((&buf[..received.bytes], received.fds.len()), (&b"abc"[..], n));
            assert!(!received.truncated);
            for fd in received.fds {
                let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
                assert_ne!(flags & libc::FD_CLOEXEC, 0);
            }
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_and_so_are_those_without_a_byte() {
        let (a, _b) = pair().unwrap();
        let refused = send_one(&a, &[a.as_fd(); MAX_FRAME_FDS + 1]).unwrap_err();
        assert_eq!(errno_of(&refused), Some(libc::EINVAL));
        let refused = send(a.as_fd(), &[IoSlice::new(b"")], &[a.as_fd()]).unwrap_err();
        assert_eq!(errno_of(&refused), Some(libc::EINVAL));
    }

    #[test]
    fn a_flood_of_descriptors_is_cut_and_reported() {
        let (a, b) = pair().unwrap();
        send_many(&a, &[a.as_raw_fd(); MAX_FRAME_FDS + 1]);
        let received = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert_eq!(received.bytes, 1);
        assert!(received.truncated && received.fds.len() <= MAX_FRAME_FDS);
    }

    #[test]
    fn what_is_received_takes_no_time_to_close() {
        let (a, b) = pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let waits = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        setsockopt(&waits, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 60 }).unwrap();
        let was_hurried = || getsockopt(&waits, sockopt::Linger).unwrap().l_onoff == 0;
        let again = || {
            assert!(was_hurried(), "before it was closed");
            setsockopt(&waits, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 60 }).unwrap();
        };
        send_one(&a, &[waits.as_fd()]).unwrap();
        let received = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert!(received.truncated && received.fds.is_empty());
        again();
        // As the last of all that the kernel lets through.
        let null = fd::dev_null().unwrap();
        let mut fds = vec![null.as_raw_fd(); MOST_SENT];
        fds[MOST_SENT - 1] = waits.as_raw_fd();
        send_many(&a, &fds);
        let received = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert!(received.truncated && received.fds.len() == MAX_FRAME_FDS);
        again();
        // Out of band.
        take_all_in_turn(b.as_fd());
        send_out_of_band(&a, waits.as_raw_fd());
        send_one(&a, &[]).unwrap();
        while let Some(received) = recv_now(b.as_fd(), &mut [0; 8]).unwrap() {
            assert!(received.bytes > 0 && received.fds.is_empty());
        }
        again();
        // In what is closed unread, and behind what is not of this kind.
        for _ in 0..3 {
            send_one(&a, &[null.as_fd()]).unwrap();
        }
        send_one(&a, &[waits.as_fd()]).unwrap();
        empty(b.as_fd());
        again();
        let (c, d) = pair().unwrap();
        send_out_of_band(&c, waits.as_raw_fd());
        send_one(&c, &[]).unwrap();
        empty(d.as_fd());
        again();
        assert_eq!(errno_of(&send_one(&a, &[]).unwrap_err()), Some(libc::EPIPE));
    }

    /// Unix sockets of all kinds in which such a one waits, in what is closed, and in what is received and not welcome.
    #[test]
    fn what_waits_in_what_is_received_takes_no_time_to_close() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let waits = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: 60 };
        let is_hurried = || getsockopt(&waits, sockopt::Linger).unwrap().l_onoff == 0;
        let sent_through = |kind: SockType| {
            let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
            if kind != SockType::Stream {
                send(a.as_fd(), &[IoSlice::new(b"")], &[]).unwrap();
            }
            send_one(&a, &[waits.as_fd()]).unwrap();
            b
        };
        // Who leaves without having read all that he was sent leaves an error, too.
        let reset = || {
            let kind = SockType::SeqPacket;
            let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
            send_one(&a, &[waits.as_fd()]).unwrap();
            send_one(&b, &[]).unwrap();
            b
        };
        let listening = || {
            let path = std::env::temp_dir().join(format!("stokehold-{}-listens", std::process::id()));
            let listener = listen(&path).unwrap();
            set_nonblocking(listener.as_fd(), false).unwrap();
            let a = connect(&path, Duration::from_secs(10)).unwrap();
            std::fs::remove_file(&path).unwrap();
            send_one(&a, &[waits.as_fd()]).unwrap();
            listener
        };
        type Parcel<'p> = &'p dyn Fn() -> OwnedFd;
        let parcels: [(&str, Parcel<'_>); 5] = [
            ("stream", &|| sent_through(SockType::Stream)),
            ("datagrams", &|| sent_through(SockType::Datagram)),
            ("messages", &|| sent_through(SockType::SeqPacket)),
            ("messages of who left", &reset),
            ("listener", &listening),
        ];
        for (what, parcel) in parcels {
            setsockopt(&waits, sockopt::Linger, &linger).unwrap();
            close(parcel());
            assert!(is_hurried(), "{what}");
            // One within another, in one that is closed.
            setsockopt(&waits, sockopt::Linger, &linger).unwrap();
            let (a, b) = pair().unwrap();
            let (c, d) = pair().unwrap();
            send_one(&c, &[parcel().as_fd()]).unwrap();
            send_one(&a, &[d.as_fd()]).unwrap();
            drop(d);
            empty(b.as_fd());
            assert!(is_hurried(), "{what} in a socket");
            // Among more than may come.
            setsockopt(&waits, sockopt::Linger, &linger).unwrap();
            let (a, b) = pair().unwrap();
            let parcels: [OwnedFd; MAX_FRAME_FDS + 1] = std::array::from_fn(|_| parcel());
            send_many(&a, &parcels.each_ref().map(AsRawFd::as_raw_fd));
            drop(parcels);
            let received = recv(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
            assert!(received.truncated);
            assert!(is_hurried(), "{what} in a message");
        }
    }

    #[test]
    fn whoever_shares_a_socket_cannot_have_us_wait_nor_fill_us() {
        let (a, b) = pair().unwrap();
        assert!(recv_now(b.as_fd(), &mut [0; 8]).unwrap().is_none());
        let chunk = vec![0; 1 << 20];
        while send_now(b.as_fd(), &[IoSlice::new(&chunk)], &[]).unwrap().is_some() {}
        let on: libc::c_int = 1;
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: reads one number. Before Linux 6.5 there is no such option.
        unsafe {
            let at = ptr::from_ref(&on).cast();
            libc::setsockopt(b.as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, at, len);
            libc::setsockopt(b.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, at, len);
        }
        let null = fd::dev_null().unwrap();
        send_one(&a, &[null.as_fd(); MAX_FRAME_FDS]).unwrap();
        let mine = || {
            let listed = fd::listed().unwrap().into_iter();
            let to = listed.filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok());
            to.filter(|to| to.to_string_lossy().contains("pidfd")).count()
        };
        let before = mine();
        let received = recv_now(b.as_fd(), &mut [0; 8]).unwrap().unwrap();
        assert!(!received.truncated && received.fds.len() == MAX_FRAME_FDS);
        for _ in 0..100 {
            send_one(&a, &[]).unwrap();
        }
        (0..100).for_each(|_| drop(recv_now(b.as_fd(), &mut [0; 3]).unwrap().unwrap()));
        assert!(mine() < before + 50, "handles of senders are left"); // other tests have some, too
    }

    #[test]
    fn blocking_is_no_failure_and_the_end_is_zero_bytes() {
        let (a, b) = pair().unwrap();
        set_nonblocking(a.as_fd(), true).unwrap();
        assert!(recv(a.as_fd(), &mut [0; 8]).unwrap().is_none());
        let chunk = vec![0; 1 << 20];
        while send(a.as_fd(), &[IoSlice::new(&chunk)], &[]).unwrap().is_some() {}
        drop(b);
        assert_eq!(errno_of(&send_one(&a, &[]).unwrap_err()), Some(libc::EPIPE));
        let (a, b) = pair().unwrap();
        drop(b);
        assert_eq!(recv(a.as_fd(), &mut [0; 8]).unwrap().unwrap().bytes, 0);
    }

    #[test]
    fn only_unix_stream_sockets_are_such() {
        let (a, _b) = pair().unwrap();
        assert!(is_unix_stream(a.as_fd()).unwrap());
        assert!(!is_unix_stream(fd::dev_null().unwrap().as_fd()).unwrap());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!is_unix_stream(udp.as_fd()).unwrap());
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(!is_unix_stream(datagram.as_fd()).unwrap());
    }

    #[test]
    fn a_pair_shows_its_creator() {
        let (a, _b) = pair().unwrap();
        set_buffer_sizes(a.as_fd(), 64 * 1024).unwrap();
        let me = peer_credentials(a.as_fd()).unwrap();
        assert_eq!(me.pid as u32, std::process::id());
    }
}
