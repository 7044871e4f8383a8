//! What happens to messages when a receiver is slow, full or absent.

mod balance;
mod overflow;
mod receive_hwm;
