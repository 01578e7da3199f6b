//! [`app_library!`](crate::app_library): the export of a shared object of apps, and what it expands to.

pub use crate::sys::library::adopt;
pub use crate::worker::enter_library as enter;

/// Makes a library of apps of a `cdylib` crate: a shared object that `stokehold serve --app-library`, or
/// [`Builder::app_library`](crate::Builder::app_library), runs. Takes what [`init`](crate::init) takes. Once in a crate.
///
/// ```
/// use stokehold::{App, Args, Ctx, Reply, Result};
///
/// struct Sums;
///
/// impl App for Sums {
///     const NAME: &'static str = "sums:Sums";
///     fn init(_: &Ctx) -> Result<Self> {
///         Ok(Sums)
///     }
///     fn call(&self, _: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
///         let (a, b): (i64, i64) = args.parse()?;
///         Ok(Reply::from(a + b))
///     }
/// }
///
/// stokehold::app_library!(|apps| apps.add::<Sums>());
/// # fn main() {}
/// ```
///
/// ```toml
/// [lib]
/// crate-type = ["cdylib"]
/// ```
///
/// The object has its own copy of this crate, which must have the layout of shared memory that the program's has: one of
/// another version is refused at the start, with both numbers. Each worker process loads it for itself, as does a process
/// at the start that only asks for the names; constructors in it run in both. A logger is installed in the closure, if
/// there is to be one: the program's own is not the object's.
#[macro_export]
macro_rules! app_library {
    ($register:expr) => {
        /// What `stokehold` finds here. Called by it alone.
        ///
        /// # Safety
        /// `socket` is -1, or is given away.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn stokehold_app_library(abi: u32, purpose: u32, socket: i32) -> i32 {
            // SAFETY: the promise of this function's caller.
            let socket = unsafe { $crate::library::adopt(socket) };
            $crate::library::enter(abi, purpose, socket, $register)
        }
    };
}
