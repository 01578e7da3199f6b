//! User code: the [`App`] trait, and the table in which a process registers its apps by name.

use super::{Args, Ctx, Reply};
use crate::error::{Error, Kind, Result};
use crate::limits::{MAX_APPS, MAX_NAME};

/// User code that workers run. One instance a worker process, shared by its app threads.
///
/// ```
/// use stokehold::{App, Args, Ctx, Error, Reply, Result};
///
/// struct Sums;
///
/// impl App for Sums {
///     const NAME: &'static str = "sums:Sums";
///
///     fn init(_: &Ctx) -> Result<Self> {
///         Ok(Sums)
///     }
///
///     fn call(&self, action: &str, args: Args<'_>, _: &Ctx) -> Result<Reply> {
///         match action {
///             "add" => {
///                 let (a, b): (i64, i64) = args.parse()?;
///                 Ok(Reply::from(a + b))
///             }
///             other => Err(Error::no_action(other)),
///         }
///     }
/// }
/// ```
pub trait App: Send + Sync + Sized + 'static {
    /// The name by which clients call it, such as `"thumbs:Thumb"`. At most 255 bytes.
    const NAME: &'static str;

    /// Makes the instance, on the worker's first thread, before the worker takes calls. It may take long and may
    /// start threads. An error, a panic or a crash fails the boot of this worker.
    fn init(ctx: &Ctx) -> Result<Self>;

    /// Runs one action, on one of the worker's app threads, concurrently with itself if there are several. It may
    /// block. An error or a panic ends this call with [`Code::App`](crate::error::Code::App) and the worker lives
    /// on; anything that ends the process ends the call with `WorkerDied`.
    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply>;

    /// Called once before the worker leaves in an orderly way. One that is killed need not get to it.
    fn close(&self) {}
}

/// An app without its name and type: what [`Apps::add_with`] makes. Every [`App`] is one; it is implemented by hand
/// for apps that are only known at run time, such as a table of functions of another language.
pub trait AnyApp: Send + Sync {
    /// See [`App::call`].
    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply>;

    /// See [`App::close`].
    fn close(&self) {}
}

impl<A: App> AnyApp for A {
    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        App::call(self, action, args, ctx)
    }

    fn close(&self) {
        App::close(self);
    }
}

type Init = Box<dyn Fn(&Ctx) -> Result<Box<dyn AnyApp>> + Send + Sync>;

/// The apps that a process knows, by name. Filled in [`init`](crate::init), the same in the host and in the
/// re-executed copy.
#[derive(Default)]
pub struct Apps {
    table: Vec<(String, Init)>,
}

impl Apps {
    /// Registers an app under its name.
    ///
    /// # Errors
    /// `Config` if the name is empty, too long or taken, or there are too many apps.
    pub fn add<A: App>(&mut self) -> Result<&mut Apps> {
        self.add_with(A::NAME, |ctx| A::init(ctx).map(|app| Box::new(app) as Box<dyn AnyApp>))
    }

    /// Registers an app under a name that is known at run time. `init` is what [`App::init`] is.
    ///
    /// # Errors
    /// Those of [`add`](Apps::add).
    pub fn add_with(
        &mut self,
        name: &str,
        init: impl Fn(&Ctx) -> Result<Box<dyn AnyApp>> + Send + Sync + 'static,
    ) -> Result<&mut Apps> {
        let wrong = |why: String| Err(Error::new(Kind::Config(why.into())));
        if name.is_empty() || name.len() > MAX_NAME {
            return wrong(format!("an app's name has 1 to {MAX_NAME} bytes, {name:?} has {}", name.len()));
        }
        if self.knows(name) {
            return wrong(format!("the app {name:?} is registered twice"));
        }
        if self.table.len() == MAX_APPS {
            return wrong(format!("more than {MAX_APPS} apps"));
        }
        self.table.push((name.to_owned(), Box::new(init)));
        Ok(self)
    }

    /// Whether an app of this name is registered.
    pub fn knows(&self, name: &str) -> bool {
        self.table.iter().any(|(n, _)| n == name)
    }

    /// All names, in the order of registration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|(name, _)| name.as_str())
    }

    /// Makes the instances of these apps.
    pub(super) fn instantiate(&self, names: &[String], ctx: &Ctx) -> Result<Vec<(String, Box<dyn AnyApp>)>> {
        names
            .iter()
            .map(|name| {
                let init = self.table.iter().find(|(n, _)| n == name).map(|(_, init)| init);
                let init = init
                    .ok_or_else(|| Error::new(Kind::Start(format!("no app named {name:?} here").into())))?;
                let app = init(ctx).map_err(|e| e.context(format!("init of {name}")))?;
                Ok((name.clone(), app))
            })
            .collect()
    }
}

impl std::fmt::Debug for Apps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
