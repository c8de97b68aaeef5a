//! Network namespaces that this process made, and that go with it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the names of all namespaces begin with; the process's id follows.
const PREFIX: &str = "bailiwick-";
/// Where `ip netns` keeps them.
const PLACE: &str = "/run/netns";

/// A network namespace. It goes when this is dropped, and its interfaces with it.
pub(crate) struct Space {
    name: String,
    file: File,
}

impl Space {
    pub(crate) fn new(label: &str) -> Result<Space, String> {
        static STALE: Once = Once::new();
        STALE.call_once(remove_stale);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]), "")?;
        let file = File::open(Path::new(PLACE).join(&name)).map_err(|error| error.to_string())?;
        let space = Space { name, file };
        // Addresses are there at once, and nothing is sent to find out whether somebody else has them.
        space.set("net.ipv6.conf.default.accept_dad", "0");
        space.set("net.ipv6.conf.all.accept_dad", "0");
        space.ip("link set lo up");
        Ok(space)
    }

    /// Does something on a thread that is inside.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.file.as_fd(), kind).expect("the namespace is entered");
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// `ip` inside: one command a line.
    pub(crate) fn ip(&self, commands: &str) {
        let mut command = Command::new("ip");
        run(command.args(["-n", &self.name, "-batch", "-"]), commands).expect("the interfaces are set up");
    }

    /// A wire from an interface here to one in another namespace.
    pub(crate) fn wire(&self, here: &str, other: &Space, there: &str) {
        self.ip(&format!("link add name {here} type veth peer name {there} netns {}", other.name));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// Rules of nftables.
    pub(crate) fn nft(&self, rules: &str) {
        self.try_nft(rules).unwrap_or_else(|error| panic!("{error} in {rules}"));
    }

    pub(crate) fn try_nft(&self, rules: &str) -> Result<(), String> {
        self.within(|| run(Command::new("nft").args(["-f", "-"]), rules))
    }

    /// A setting of the kernel's, as `sysctl` names it.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.within(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Lets packets pass from one interface to another.
    pub(crate) fn forward(&self) {
        self.set("net.ipv4.ip_forward", "1");
        self.set("net.ipv6.conf.all.forwarding", "1");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]), "");
    }
}

fn run(command: &mut Command, input: &str) -> Result<(), String> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{command:?}: {error}"))?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match written {
        Some(Ok(())) if output.status.success() => Ok(()),
        _ => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Ends what a run that was killed has left: its nodes and its namespaces.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(PLACE) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
            continue;
        }
        let inside = Command::new("ip").args(["netns", "pids", &name]).output();
        let inside = inside.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for pid in inside.split_whitespace() {
            let _ = run(Command::new("kill").args(["-9", pid]), "");
        }
        let _ = run(Command::new("ip").args(["netns", "del", &name]), "");
    }
}
