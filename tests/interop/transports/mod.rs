//! Endpoints of every form: tcp, ipc and inproc.

mod addresses;
mod inproc;
mod ipc;
mod reconnect;
mod tcp_options;
