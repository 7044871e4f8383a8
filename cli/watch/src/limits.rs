//! Limits of a watch, each with its reason.

use std::time::Duration;

/// Most watches of one file. A look at all of them takes well below a millisecond.
pub const WATCHES_MAX: usize = 1000;

/// Most bytes of one JSON object of a plain TCP client; objects of real programs have hundreds.
pub const OBJECT_SIZE_MAX: usize = 64 << 10;

/// Most bytes of the `type` or `service` of a heartbeat: both are names.
pub const NAME_SIZE_MAX: usize = 128;

/// Peers of one side of a proxy that a look at the broker covers, for the signs that ask for every
/// peer. Ten answers of a hundred peers each take the broker about a millisecond.
pub const PEERS_MAX: usize = 1000;

/// Watches of a report to the broker, which keeps as many.
pub const REPORT_MAX: usize = 256;

/// The shortest time between two checks of a watch, and two looks at the broker.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The longest time between two checks of a watch.
pub const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The time between TERM and KILL for a command that has used up its `action_timeout`.
pub const KILL_DELAY: Duration = Duration::from_secs(5);

/// The time after KILL in which a process ends, unless the kernel holds it.
pub const END_DELAY: Duration = Duration::from_secs(5);

/// If this process was not run for longer, silence proves nothing: every watch gets its grace.
pub const GAP: Duration = Duration::from_secs(5);

/// The fewest watches that make a storm when they go down together.
pub const STORM_MIN: usize = 3;
