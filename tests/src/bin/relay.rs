//! The least that a proxy can cost: copies bytes without knowledge of any protocol.
//!
//! Accepts one connection on each of two ports and copies bytes between them, one thread for each
//! direction, until both are closed; then it accepts the next two. The peers shake hands with each
//! other, so their types must match: PUSH and PULL, PUB and SUB, DEALER and DEALER.
//!
//! `relay [BUFFER_BYTES]` prints the two endpoints as `zmqd` does.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

fn main() -> ExitCode {
    let buffer_size = std::env::args()
        .nth(1)
        .map_or(Ok(BUFFER_SIZE), |text| text.parse());
    let Ok(buffer_size @ 1..) = buffer_size else {
        eprintln!("relay: the argument is the size of the buffer in bytes");
        return ExitCode::from(2);
    };
    match serve(buffer_size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(buffer_size: usize) -> io::Result<()> {
    let front = TcpListener::bind(("127.0.0.1", 0))?;
    let back = TcpListener::bind(("127.0.0.1", 0))?;
    println!("relay frontend bound tcp://{}", front.local_addr()?);
    println!("relay backend bound tcp://{}", back.local_addr()?);
    io::stdout().flush()?;
    loop {
        let (front, _) = front.accept()?;
        let (back, _) = back.accept()?;
        front.set_nodelay(true)?;
        back.set_nodelay(true)?;
        thread::scope(|scope| {
            scope.spawn(|| copy(&back, &front, buffer_size));
            copy(&front, &back, buffer_size);
        });
    }
}

/// Copies until one of the two is closed, and then closes both.
fn copy(mut from: &TcpStream, mut to: &TcpStream, buffer_size: usize) {
    let mut buffer = vec![0; buffer_size];
    loop {
        let size = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received.unwrap_or_default(),
        };
        if size == 0 || to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // An error means that it is closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The size that `zmqd` reads with.
const BUFFER_SIZE: usize = 256 << 10;
