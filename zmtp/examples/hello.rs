//! A REQ over a plain TCP stream: `cargo run -p zmqd-zmtp --example hello -- 127.0.0.1:5555`.
//!
//! It sends a request to any REP, such as this one of libzmq:
//!
//! ```python
//! import zmq
//! rep = zmq.Context().socket(zmq.REP)
//! rep.bind("tcp://127.0.0.1:5555")
//! print(rep.recv()); rep.send(b"world")
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "an example is a driver: it may look at the clock"
)]

use std::io::{self, ErrorKind, Read, Write};
use std::{net::TcpStream, sync::Arc, time::Instant};
use zmtp::{Event, Frames, Session, SessionConfig, SocketType, encode::append_message};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let mut stream = TcpStream::connect(address.as_deref().unwrap_or("127.0.0.1:5555"))?;

    // Bytes to send gather in `out`, received bytes in `input`: the session owns neither.
    let (mut out, mut input, mut scratch) = (Vec::new(), Vec::new(), [0; 4096]);
    let config = Arc::new(SessionConfig::new(SocketType::Req));
    let mut session = Session::new(config, Instant::now(), &mut out);
    loop {
        let step = match session.handle_input(&mut input, &mut out) {
            Ok(step) => step,
            Err(error) => {
                stream.write_all(&out)?; // perhaps an ERROR that tells the peer why
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        };
        match step.event {
            Event::Need(_) => {
                input.truncate(input.len() - step.removed);
                stream.write_all(&out)?;
                out.clear();
                match stream.read(&mut scratch)? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    size => input.extend_from_slice(&scratch[..size]),
                }
            }
            Event::Ready(peer) => {
                println!("connected to {peer:?}");
                // A request is an empty delimiter and a body.
                append_message(&mut out, &[&b""[..], b"hello"]);
                input.drain(..step.consumed);
            }
            Event::Message(span) => {
                let reply = &input[step.consumed..][..span.size];
                println!("answered by {}", Frames::new(reply));
                return Ok(());
            }
            _ => drop(input.drain(..step.consumed)),
        }
    }
}
