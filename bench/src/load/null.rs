//! The null server: answers at once and always the same, so that what is measured is the load itself.

use crate::sidecar::unusable;
use crate::versus::step::Error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Its own name among the connections, which have their descriptors' numbers.
const LISTENER: u64 = u64::MAX;

/// Starts one on a thread of its own, on `cpu` where that can be had. Ends with this process.
pub(crate) fn start(cpu: usize) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(unusable("a free port"))?;
    let address = listener.local_addr().map_err(unusable("a free port"))?;
    thread::spawn(move || {
        super::pin(cpu);
        // Its end is seen as lost requests by whoever loads it.
        let _ = serve(&listener);
    });
    Ok(address)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = Vec::with_capacity(64);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let name = { event.data }.u64();
            if name == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let name = u64::try_from(stream.as_raw_fd()).unwrap_or(LISTENER);
                epoll::add(&epoll, &stream, EventData::new_u64(name), EventFlags::IN)?;
                streams.insert(name, stream);
            } else if streams.get(&name).is_some_and(|stream| answer(stream).is_err()) {
                streams.remove(&name);
            }
        }
    }
}

/// Requests come one by one, without a body: what came is one request, and its head came in one piece.
fn answer(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 4_096])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => stream.write_all(ANSWER),
    }
}
