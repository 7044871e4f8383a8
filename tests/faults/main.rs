//! Real faults of networks, clocks, disks and memory, between processes that do not know that it is
//! a test.
//!
//! They need root, and packages that a machine for Rust need not have: `./ci.sh faults`.

mod cable;
mod clock;
mod disk;
mod loss;
mod memory;
mod partition;
