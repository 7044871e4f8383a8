//! Limits of every configuration, each with its reason.

/// Bytes of a configuration file. A proxy takes about 200, so this allows tens of thousands of
/// proxies, and the worst text of this size is read within a second and a GiB of memory.
pub const CONFIG_SIZE_MAX: usize = 8 << 20;

/// Bytes that the memory limit and the buffers of recordings may have together where addresses have
/// 32 bits: such a process has 3 GiB of addresses, of which it cannot use all, and needs more
/// memory than it counts. [`None`] elsewhere.
pub const ADDRESSED_BYTES_MAX: Option<u64> = match usize::BITS {
    32 => Some(2 << 30),
    _ => None,
};

/// The longest topic that has a last value, in bytes.
pub const CACHE_TOPIC_SIZE_MAX: usize = 1024;
