//! Addresses within one machine: `ipc://` and `inproc://`.

use std::fmt;

use super::EndpointFault;

/// The name in an `ipc://` endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IpcName {
    /// `@NAME`: a name in Linux's abstract namespace, without a file.
    Abstract(String),
    /// `*`: a socket in a new temporary directory; only for binding.
    Any,
    /// The path of a socket.
    Path(String),
}

impl fmt::Display for IpcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::Any => f.write_str("*"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

pub(super) fn parse_ipc(text: &str) -> Result<IpcName, EndpointFault> {
    if matches!(text, "" | "@") {
        return Err(EndpointFault::IpcNameMissing);
    }
    if text.len() > IPC_SIZE_MAX {
        return Err(EndpointFault::IpcNameTooLong {
            size: text.len(),
            size_max: IPC_SIZE_MAX,
        });
    }
    Ok(match (text, text.strip_prefix('@')) {
        ("*", _) => IpcName::Any,
        (_, Some(name)) => IpcName::Abstract(name.to_owned()),
        (path, None) => IpcName::Path(path.to_owned()),
    })
}

pub(super) fn parse_inproc(text: &str) -> Result<String, EndpointFault> {
    if text.is_empty() || text.len() > INPROC_SIZE_MAX {
        return Err(EndpointFault::InprocName {
            size: text.len(),
            size_max: INPROC_SIZE_MAX,
        });
    }
    Ok(text.to_owned())
}

/// The longest name in the system's address of a local socket, in bytes.
const IPC_SIZE_MAX: usize = 107;

/// As in libzmq, in bytes.
const INPROC_SIZE_MAX: usize = 256;
