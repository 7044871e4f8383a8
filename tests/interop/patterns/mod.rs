//! What each kind of proxy and each socket type does with messages.

mod any_sockets;
mod asyncio;
mod forwarder;
mod late;
mod message_shapes;
mod queue;
mod socket_options;
mod streamer;
