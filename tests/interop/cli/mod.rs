//! The command line: the process, and each subcommand that talks to one.

mod activation;
mod clients;
mod clients_hostile;
mod ctl;
mod http;
mod log;
mod reload;
mod replay;
mod run;
mod security;
mod sniff;
mod status;
mod systemd;
mod top;
mod watch;
