//! Hostile peers, frozen and killed processes, restarts, and systems without resources.

mod fd_limits;
mod frozen_and_killed;
mod hostile_peers;
mod memory_limits;
mod restarts;
