//! Why the program ends without having done what it was asked.

use std::fmt;

/// Exit status of a command line that makes no sense.
pub const USAGE: u8 = 2;

/// A reason, and with it an exit status.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense: status 2.
    Usage(String),
    /// It was tried and did not work: status 1.
    Run(String),
    /// A call had another outcome than a result: the status says which.
    Outcome(String, u8),
}

impl Failure {
    pub fn usage(why: impl Into<String>) -> Failure {
        Failure::Usage(why.into())
    }

    pub fn status(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Run(_) => 1,
            Failure::Outcome(_, status) => *status,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) => write!(f, "{why}\nTry `stokehold --help`."),
            Failure::Run(why) | Failure::Outcome(why, _) => f.write_str(why),
        }
    }
}

impl From<stokehold::Error> for Failure {
    fn from(error: stokehold::Error) -> Failure {
        Failure::Run(error.to_string())
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Failure {
        Failure::Usage(error.to_string())
    }
}
