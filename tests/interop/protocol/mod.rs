//! ZMTP: limits, heartbeats, mechanisms, and peers of version 2.0.

mod heartbeats;
mod limits;
mod mechanisms;
mod zmtp2;
