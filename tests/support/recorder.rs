//! A recorder: an origin that keeps the exact bytes of every connection, and answers with the bytes it is given.
//!
//! One thread looks at every connection in turn. So when it says what it has received, it has looked at each of them after it
//! was asked: whatever a peer had sent before is in the answer.

use crate::message::{Kind, Message};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Pause between two looks at connections on which nothing came.
const PAUSE: Duration = Duration::from_millis(1);

/// How requests are answered.
#[derive(Debug, Clone)]
pub struct Script {
    /// Requests for this target alone; others get the usual answer.
    pub target: String,
    /// The answer, byte for byte.
    pub bytes: Vec<u8>,
    /// Whether the connection is closed behind it.
    pub closes: bool,
}

/// What was received since the last time.
#[derive(Debug, Default)]
pub struct Recording {
    /// The bytes of each whole request, in the order in which they became whole.
    pub requests: Vec<Vec<u8>>,
    /// What came on a connection besides: requests that are not whole, bytes that are none, bytes after a change of protocols.
    pub rest: Vec<Vec<u8>>,
}

enum Command {
    Play(Option<Script>, Sender<()>),
    Take(Sender<Recording>),
}

/// A running recorder. Its thread ends with it.
pub struct Recorder {
    address: SocketAddr,
    commands: Sender<Command>,
}

impl Recorder {
    /// Answers 200 with `ok` unless it is told otherwise.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("an option");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (commands, told) = channel();
        std::thread::spawn(move || Desk { listener, connections: Vec::new(), script: None, recording: Recording::default() }.run(&told));
        Self { address, commands }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers as `script` says, from now on.
    pub fn play(&self, script: Option<Script>) {
        let (into, from) = channel();
        self.commands.send(Command::Play(script, into)).expect("the recorder runs");
        from.recv().expect("the recorder runs");
    }

    /// Everything received since the last time.
    pub fn take(&self) -> Recording {
        let (into, from) = channel();
        self.commands.send(Command::Take(into)).expect("the recorder runs");
        from.recv().expect("the recorder runs")
    }
}

struct Desk {
    listener: TcpListener,
    connections: Vec<Line>,
    script: Option<Script>,
    recording: Recording,
}

struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// It speaks HTTP: no change of protocols was answered, and nothing came that is none.
    speaks_http: bool,
}

impl Desk {
    fn run(mut self, told: &Receiver<Command>) {
        loop {
            let command = match told.try_recv() {
                Ok(command) => Some(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => None,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            };
            let mut has_moved = false;
            while self.sweep() {
                has_moved = true;
            }
            match command {
                // Nobody waits for an answer any more when its test has failed.
                Some(Command::Play(script, into)) => {
                    self.script = script;
                    let _ = into.send(());
                }
                Some(Command::Take(into)) => drop(into.send(self.take())),
                None if has_moved => {}
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes what there is, once from each connection. Whether there was anything.
    fn sweep(&mut self) -> bool {
        let mut has_moved = false;
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("an option");
            stream.set_nodelay(true).expect("an option");
            self.connections.push(Line { stream, bytes: Vec::new(), speaks_http: true });
            has_moved = true;
        }
        let mut at = 0;
        while let Some(line) = self.connections.get_mut(at) {
            let mut chunk = [0; 16 << 10];
            let is_open = match line.stream.read(&mut chunk) {
                Ok(0) => false,
                Ok(length) => {
                    has_moved = true;
                    line.bytes.extend_from_slice(&chunk[..length]);
                    line.answer(self.script.as_ref(), &mut self.recording)
                }
                Err(why) => why.kind() == ErrorKind::WouldBlock,
            };
            if is_open {
                at += 1;
            } else {
                let line = self.connections.swap_remove(at);
                self.recording.rest.extend(Some(line.bytes).filter(|bytes| !bytes.is_empty()));
            }
        }
        has_moved
    }

    fn take(&mut self) -> Recording {
        let open = self.connections.iter_mut().filter(|line| !line.bytes.is_empty());
        self.recording.rest.extend(open.map(|line| std::mem::take(&mut line.bytes)));
        std::mem::take(&mut self.recording)
    }
}

impl Line {
    /// Answers every whole request that there is. Whether the connection goes on.
    fn answer(&mut self, script: Option<&Script>, recording: &mut Recording) -> bool {
        while self.speaks_http {
            match Message::read(&self.bytes, Kind::Request, false) {
                Ok(None) => return true,
                Err(_) => self.speaks_http = false,
                Ok(Some((request, length))) => {
                    recording.requests.push(self.bytes.drain(..length).collect());
                    let played = script.filter(|script| script.target == request.target());
                    let body = if request.method() == "HEAD" { "" } else { "ok" };
                    let usual = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}").into_bytes();
                    let bytes = played.map_or(&usual, |script| &script.bytes);
                    self.speaks_http = !bytes.starts_with(b"HTTP/1.1 101 ");
                    // A peer that has gone hears no answer.
                    if self.stream.write_all(bytes).is_err() || played.is_some_and(|script| script.closes) {
                        return false;
                    }
                }
            }
        }
        true
    }
}
