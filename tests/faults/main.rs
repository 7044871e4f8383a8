//! Real faults of networks, clocks, disks, memory and processes, between unmodified processes.
//!
//! They need root, and packages that a Rust machine may lack: `./ci.sh faults`.

mod cable;
mod clock;
mod disk;
mod loss;
mod memory;
mod orphans;
mod partition;
mod standstill;
