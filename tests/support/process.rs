//! Processes under test: started with a folder of their own, ended by id.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything that should happen at once; reached only when it never happens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Path of a binary of this workspace, built beside the tests.
///
/// # Panics
/// When it is not there, with the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/sidecar-… → target/<profile>/
    let folder = here.parent().and_then(|deps| deps.parent()).expect("tests lie in <profile>/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built; run: cargo build -p bulkhead -p bulkhead-sidecar -p bulkhead-bench", path.display());
    path
}

/// A Python in which this package can be imported.
///
/// # Panics
/// When it is not there, with the commands that install it.
pub fn python(package: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/sidecar-… → target/venv
    let target = here.ancestors().nth(3).expect("tests lie in target/<profile>/deps");
    let python = target.join("venv/bin/python");
    let has = Command::new(&python).args(["-c", &format!("import importlib.metadata as m; m.version('{package}')")]).output();
    assert!(
        has.is_ok_and(|output| output.status.success()),
        "{} has no {package}; run: ./test integration, or: python3 -m venv {venv} && {venv}/bin/pip install {package}",
        python.display(),
        venv = target.join("venv").display(),
    );
    python
}

/// Waits until `probe` gives something.
///
/// # Panics
/// When it does not within half a minute; `what` names what was awaited.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child process that ends with its owner.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with its output going to files in `logs`.
    pub fn start(mut command: Command, logs: &std::path::Path) -> Self {
        std::fs::create_dir_all(logs).expect("a folder for logs");
        let open = |name: &str| std::fs::OpenOptions::new().create(true).append(true).open(logs.join(name)).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("stderr"))
            .spawn()
            .unwrap_or_else(|why| panic!("{command:?}: {why}"));
        Self { child }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Sends a signal by name (`TERM`, `HUP`, `KILL`).
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().expect("kill(1) exists");
        assert!(sent.success(), "kill -{name} {}", self.id());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().expect("the child is ours"))
    }

    /// Ends it at once, as a crash or the out-of-memory killer would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
