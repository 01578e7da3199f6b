//! Shared objects that are loaded while the program runs, and the one function of theirs that is called. They are never
//! unloaded: nobody could say what of theirs is still in use.

use crate::error::{Error, Kind, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The function by which a library is entered: which interface the caller speaks, what for, and a socket, which becomes
/// the callee's, or -1.
pub type Enter = unsafe extern "C" fn(abi: u32, purpose: u32, socket: i32) -> i32;

/// A library that was loaded.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    enter: Enter,
}

impl Library {
    /// Loads the object at this path, with all that it needs, and finds the function. Its constructors run here, and
    /// may do anything. See `dlopen(3)`.
    ///
    /// # Errors
    /// `Start`, in the words of the dynamic linker.
    pub fn open(path: &Path, symbol: &CStr) -> Result<Library> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::new(Kind::Config("the path of a library has a zero byte".into())))?;
        // SAFETY: `name` is terminated. What the object's constructors do is the caller's risk, who runs this in a
        // process of its own.
        let object = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if object.is_null() {
            return Err(Error::new(Kind::Start(problem().into())));
        }
        // SAFETY: `object` was opened above and is never closed; `symbol` is terminated.
        let found = unsafe { libc::dlsym(object, symbol.as_ptr()) };
        if found.is_null() {
            let why = format!(
                "{} does not export {}: it is no library of apps",
                path.display(),
                symbol.to_string_lossy()
            );
            return Err(Error::new(Kind::Start(why.into())));
        }
        // SAFETY: not null, and what has this name is such a function: that is what the name is for. A function pointer
        // has the size of a data pointer on every system that has dlsym.
        let enter = unsafe { std::mem::transmute::<*mut libc::c_void, Enter>(found) };
        Ok(Library { enter })
    }

    /// Calls it; the socket is its own from then on.
    pub fn enter(&self, abi: u32, purpose: u32, socket: Option<OwnedFd>) -> i32 {
        let socket = socket.map_or(-1, IntoRawFd::into_raw_fd);
        // SAFETY: the object is never unloaded, and takes three numbers; what it does with them is as above.
        unsafe { (self.enter)(abi, purpose, socket) }
    }
}

/// The socket that a library was given, `None` for -1.
///
/// # Safety
/// `fd` is -1 or a descriptor that was handed over: open, and nobody else's.
pub unsafe fn adopt(fd: i32) -> Option<OwnedFd> {
    // SAFETY: not -1, and the contract of this function.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the dynamic linker says of the last failure in this thread. See `dlerror(3)`.
fn problem() -> String {
    // SAFETY: null, or a terminated string that is valid until the next call of this thread.
    let text = unsafe { libc::dlerror().cast_const().as_ref().map(|text| CStr::from_ptr(text)) };
    text.map_or("it cannot be loaded".into(), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_loaded_says_why() {
        let e = Library::open(Path::new("/nonexistent/lib.so"), c"enter").unwrap_err();
        assert!(e.to_string().contains("/nonexistent/lib.so"), "{e}");
        let e = Library::open(Path::new("/proc/self/status"), c"enter").unwrap_err();
        assert!(e.to_string().contains("/proc/self/status"), "{e}");
    }

    #[test]
    fn a_library_without_the_function_is_none_of_ours() {
        let libc = ["libc.so.6", "libc.so"].iter().find_map(|name| {
            Library::open(Path::new(name), c"no_such_function")
                .err()
                .filter(|e| e.to_string().contains("export"))
        });
        assert!(libc.is_some_and(|e| e.to_string().contains("no_such_function")));
    }
}
