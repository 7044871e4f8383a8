//! Limits of every configuration, each with its reason.

/// Bytes of a configuration file. A proxy takes about 200, so this allows tens of thousands of
/// proxies, and the worst text of this size is read within a second and a GiB of memory.
pub const CONFIG_SIZE_MAX: usize = 8 << 20;

/// The longest topic that has a last value, in bytes.
pub const CACHE_TOPIC_SIZE_MAX: usize = 1024;
