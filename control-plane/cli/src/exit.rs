//! Exit codes: the documented ones, after sysexits where it has one.

use std::io;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked and found nothing wrong.
    Done = 0,
    /// It did what was asked and found something wrong.
    Findings = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// What it was given is damaged or means nothing.
    BadData = 65,
    /// What it was told to read is not there.
    NoInput = 66,
    /// What it needs is not running, or is taken.
    Unavailable = 69,
    /// A file or socket failed.
    Io = 74,
    /// The system forbids it.
    NoPermission = 77,
    /// Settings or documents stand against it.
    Configuration = 78,
}

/// The table for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0   done, nothing wrong found
  1   done, something wrong found (validate; apply; explain --check)
  2   the command line cannot be understood
  65  the input is damaged or means nothing
  66  a file to read is not there
  69  no bulkhead is running here, or an address is taken
  74  a file or socket failed
  77  the system forbids it
  78  settings or documents stand against it

Environment:
  BULKHEAD_DATA_DIR  data directory, as --data-dir
  BULKHEAD_ENV       dev, staging or prod, as --env
  BULKHEAD_SERVER    control plane, as --server
  BULKHEAD_TOKEN     token of the operator, as --operator-token
  NO_COLOR           no colours";

impl Exit {
    /// The code for a file or socket that failed.
    pub(crate) fn of(cause: &io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Exit::NoInput,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::NoPermission,
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable | io::ErrorKind::ConnectionRefused => Exit::Unavailable,
            _ => Exit::Io,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
