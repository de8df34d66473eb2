//! Spool: a bounded queue of log lines and the thread that writes them.
//!
//! Whoever hands lines over never waits: when the queue is full they are dropped and counted, line by line. The writer starts a
//! log file anew after somebody renamed or removed it, so that rotation needs no signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Where lines go.
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to; made if it is not there, with mode 0640.
    File(PathBuf),
    /// Anything else that takes bytes.
    Other(Box<dyn Write + Send>),
}

/// A log that could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Its file.
    #[error("the {log} log cannot be written to {}; name another file or make the folder writable", path.display())]
    Open {
        /// Which log.
        log: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Its thread.
    #[error("the {log} log has no thread of its own; raise the limit on threads")]
    Thread {
        /// Which log.
        log: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// How many lines of one log were dropped since the process began.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// Lines so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

/// One end of the queue; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    queue: SyncSender<Message>,
    dropped: Dropped,
}

#[derive(Debug)]
enum Message {
    Lines(Lines),
    Flush(tokio::sync::oneshot::Sender<()>),
}

/// Whole lines, each with its line feed.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u64,
    /// Where the buffer goes back to once it is written.
    pub(crate) home: Option<SyncSender<Vec<u8>>>,
}

/// Told on the writer's thread that so many lines were dropped since it was told last; may answer with a line to write.
pub(crate) type OnDrop = Box<dyn FnMut(u64) -> Option<Vec<u8>> + Send>;

impl Spool {
    /// Opens the sink and starts the writer. It ends when every clone is gone and everything is written.
    pub(crate) fn start(log: &'static str, sink: Sink, depth: usize, on_drop: OnDrop) -> Result<Self, SpoolError> {
        let output = Output::open(sink).map_err(|(path, cause)| SpoolError::Open { log, path, cause })?;
        let (queue, inbox) = sync_channel(depth);
        let dropped = Dropped::default();
        let writer = Writer { inbox, output, torn: false, dropped: dropped.clone(), told: 0, told_at: None, on_drop };
        std::thread::Builder::new()
            .name(format!("{log}-log"))
            .spawn(move || writer.run())
            .map_err(|cause| SpoolError::Thread { log, cause })?;
        Ok(Self { queue, dropped })
    }

    /// Hands lines over, or drops and counts them; in that case the emptied buffer comes back.
    pub(crate) fn hand_over(&self, lines: Lines) -> Result<(), Vec<u8>> {
        let refused = match self.queue.try_send(Message::Lines(lines)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => message,
        };
        let Message::Lines(mut lines) = refused else { return Err(Vec::new()) };
        self.dropped.add(lines.count);
        lines.bytes.clear();
        Err(lines.bytes)
    }

    pub(crate) fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Waits until everything handed over before is written, or until the deadline has passed; tells which.
    pub(crate) async fn flush(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.flushed()).await.unwrap_or(false)
    }

    async fn flushed(&self) -> bool {
        let (done, wait) = tokio::sync::oneshot::channel();
        let mut message = Message::Flush(done);
        loop {
            message = match self.queue.try_send(message) {
                Ok(()) => return wait.await.is_ok(),
                Err(TrySendError::Full(message)) => message,
                Err(TrySendError::Disconnected(_)) => return false,
            };
            tokio::time::sleep(Duration::from_millis(2)).await; // the queue is full, and the writer at work
        }
    }
}

struct Writer {
    inbox: Receiver<Message>,
    output: Output,
    /// The last line written lacks its end.
    torn: bool,
    dropped: Dropped,
    told: u64,
    told_at: Option<Instant>,
    on_drop: OnDrop,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.inbox.recv() {
            match message {
                Message::Lines(lines) => {
                    self.tell_of_drops();
                    self.write(&lines.bytes);
                    give_back(lines);
                }
                Message::Flush(done) => {
                    self.tell_of_drops();
                    let _ = self.output.flush();
                    let _ = done.send(()); // whoever waited may have given up
                }
            }
        }
        let _ = self.output.flush();
    }

    /// Writes whole lines; what cannot be written is counted as dropped.
    fn write(&mut self, lines: &[u8]) {
        self.output.follow_rotation();
        // What a full disk cut off gets its end first, or the next line would be lost with it.
        if self.torn && self.output.write_all(b"\n").is_err() {
            return self.dropped.add(count(lines));
        }
        self.torn = false;
        let mut rest = lines;
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if !rest.is_empty() {
            let written = lines.strip_suffix(rest).unwrap_or_default();
            self.torn = !matches!(written.last(), None | Some(b'\n'));
            self.dropped.add(count(rest));
        }
    }

    /// At most once a second, or a full queue would fill itself with the news that it is full.
    #[expect(clippy::disallowed_methods, reason = "the writer's own thread, once per batch of lines")]
    fn tell_of_drops(&mut self) {
        let dropped = self.dropped.lines();
        if dropped == self.told || self.told_at.is_some_and(|told| told.elapsed() < Duration::from_secs(1)) {
            return;
        }
        let line = (self.on_drop)(dropped - self.told);
        self.told = dropped;
        self.told_at = Some(Instant::now());
        if let Some(line) = line {
            self.write(&line);
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    u64::try_from(lines.iter().filter(|&&byte| byte == b'\n').count()).unwrap_or(u64::MAX)
}

fn give_back(lines: Lines) {
    let Lines { mut bytes, home: Some(home), .. } = lines else { return };
    // A buffer that one long line blew up is not kept.
    if bytes.capacity() <= BUFFER_KEPT_MAX {
        bytes.clear();
        let _ = home.try_send(bytes); // its worker has enough
    }
}

/// Largest buffer that is used again.
const BUFFER_KEPT_MAX: usize = 128 << 10;

enum Output {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File { path: PathBuf, file: File, looked: Instant },
    Other(Box<dyn Write + Send>),
}

impl Output {
    #[expect(clippy::disallowed_methods, reason = "when a log begins")]
    fn open(sink: Sink) -> Result<Self, (PathBuf, io::Error)> {
        Ok(match sink {
            Sink::Stdout => Output::Stdout(io::stdout()),
            Sink::Stderr => Output::Stderr(io::stderr()),
            Sink::Other(output) => Output::Other(output),
            Sink::File(path) => match append_to(&path) {
                Ok(file) => Output::File { path, file, looked: Instant::now() },
                Err(cause) => return Err((path, cause)),
            },
        })
    }

    /// Opens the file again when its path names another one; looked at once a second. Failing that, the old one goes on.
    #[expect(clippy::disallowed_methods, reason = "the writer's own thread, once per batch of lines")]
    fn follow_rotation(&mut self) {
        let Output::File { path, file, looked } = self else { return };
        if looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        *looked = Instant::now();
        let open = file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        let named = std::fs::metadata(&*path).map(|meta| (meta.dev(), meta.ino())).ok();
        if open != named
            && let Ok(fresh) = append_to(path)
        {
            *file = fresh;
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(output) => output.write(bytes),
            Output::Stderr(output) => output.write(bytes),
            Output::File { file, .. } => file.write(bytes),
            Output::Other(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(output) => output.flush(),
            Output::Stderr(output) => output.flush(),
            Output::File { file, .. } => file.flush(),
            Output::Other(output) => output.flush(),
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, clippy::disallowed_types, reason = "tests")]

    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    /// A sink that tests read.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(crate) fn sink(&self) -> Sink {
            Sink::Other(Box::new(self.clone()))
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sink that takes nothing until it is let go, and says when the writer stands before it.
    pub(crate) struct Gate {
        arrived: Sender<()>,
        opened: Receiver<()>,
        page: Page,
    }

    impl Gate {
        pub(crate) fn before(page: &Page) -> (Sink, Receiver<()>, Sender<()>) {
            let ((arrived, wait), (open, opened)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
            (Sink::Other(Box::new(Gate { arrived, opened, page: page.clone() })), wait, open)
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.arrived.send(());
            let _ = self.opened.recv(); // gone: open for good
            self.page.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn wait_for_writer() -> Duration {
        Duration::from_secs(30)
    }

    fn line(text: &str, count: u64) -> Lines {
        Lines { bytes: text.as_bytes().to_vec(), count, home: None }
    }

    #[tokio::test]
    async fn what_is_handed_over_is_written_in_order() {
        let page = Page::default();
        let spool = Spool::start("test", page.sink(), 4, Box::new(|_| None)).unwrap();
        for text in ["a\n", "b\nc\n", "d\n"] {
            assert!(spool.flush(wait_for_writer()).await);
            spool.hand_over(line(text, 1)).unwrap();
        }
        assert!(spool.flush(wait_for_writer()).await);
        assert_eq!(page.text(), "a\nb\nc\nd\n");
        assert_eq!(spool.dropped().lines(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_drops_counts_each_line_and_says_so_in_the_log() {
        let page = Page::default();
        let (sink, at_gate, open) = Gate::before(&page);
        let told = Box::new(|lines| Some(format!("dropped {lines}\n").into_bytes()));
        let spool = Spool::start("test", sink, 1, told).unwrap();
        spool.hand_over(line("first\n", 1)).unwrap();
        at_gate.recv().unwrap(); // the writer holds the first, the queue is empty
        spool.hand_over(line("second\n", 1)).unwrap();
        assert_eq!(spool.hand_over(line("third\nfourth\n", 2)).unwrap_err(), Vec::<u8>::new());
        assert_eq!(spool.hand_over(line("fifth\n", 1)).unwrap_err(), Vec::<u8>::new());
        assert_eq!(spool.dropped().lines(), 3);
        drop(open);
        assert!(spool.flush(wait_for_writer()).await);
        assert_eq!(page.text(), "first\ndropped 3\nsecond\n");
    }

    #[tokio::test]
    async fn a_flush_ends_at_its_deadline_when_the_sink_is_stuck() {
        let (sink, at_gate, _open) = Gate::before(&Page::default());
        let spool = Spool::start("test", sink, 1, Box::new(|_| None)).unwrap();
        spool.hand_over(line("stuck\n", 1)).unwrap();
        at_gate.recv().unwrap();
        assert!(!spool.flush(Duration::from_millis(20)).await);
    }

    #[tokio::test]
    async fn what_the_disk_refuses_counts_as_dropped_and_the_next_line_begins_on_its_own() {
        /// Takes nine bytes, then fails once, then takes everything.
        struct Full(Page, usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 {
                    1 => self.0.write(bytes.get(..9).unwrap()),
                    2 => Err(io::ErrorKind::StorageFull.into()),
                    _ => self.0.write(bytes),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let page = Page::default();
        let spool = Spool::start("test", Sink::Other(Box::new(Full(page.clone(), 0))), 4, Box::new(|_| None)).unwrap();
        spool.hand_over(line("first\nsecond\nthird\n", 3)).unwrap();
        spool.hand_over(line("fourth\n", 1)).unwrap();
        assert!(spool.flush(wait_for_writer()).await);
        assert_eq!(page.text(), "first\nsec\nfourth\n");
        assert_eq!(spool.dropped().lines(), 2);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_named_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("access.jsonl");
        let error = Spool::start("access", Sink::File(path.clone()), 4, Box::new(|_| None)).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
