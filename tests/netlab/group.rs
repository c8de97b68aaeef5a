//! A group: the internet, a server and a master in it, and members where they are put.

use crate::node::Node;
use crate::router::{Internet, SERVER, SERVER_6};
use crate::space::Space;
use bailiwick::node::local::{Command as Ask, Reply, StandingRow};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// The server's port.
const PORT: u16 = 4433;
/// Seconds for which an invite is open.
const INVITE_S: u64 = 3_600;

/// See the module. What is declared first goes first.
pub(crate) struct Group {
    pub(crate) master: Node,
    server: Mutex<Option<Node>>,
    pub(crate) net: Internet,
    root: TempDir,
    label: String,
}

impl Group {
    pub(crate) fn new(label: &str) -> Group {
        let root = tempfile::tempdir().expect("a temporary folder");
        let net = Internet::new();
        let addresses = [format!("{SERVER}:{PORT}"), format!("[{SERVER_6}]:{PORT}")];
        let [four, six] = &addresses;
        let listen = format!("[::]:{PORT}");
        let arguments = ["server", "--listen", &listen, "--advertise", four, "--advertise", six];
        let server = Node::start(net.host("server", 1), root.path(), &format!("{label}-server"), &arguments);
        let ticket = server.ready["ticket"].as_str().expect("a ticket").to_owned();
        let arguments = ["master", "--name", "desk", "--server", &ticket];
        let master = Node::start(net.host("master", 2), root.path(), &format!("{label}-desk"), &arguments);
        Group { master, server: Mutex::new(Some(server)), net, root, label: label.to_owned() }
    }

    /// Kills the server and starts it again.
    pub(crate) fn restart_server(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        *server = server.take().map(|node| node.again("server"));
    }

    /// A folder of this name.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// A new member.
    pub(crate) fn member(&self, name: &str, space: Arc<Space>) -> Node {
        let Reply::Invites(rows) = self.master.ask(&Ask::Invite { expires_s: INVITE_S }) else { panic!("no invite") };
        let invite = rows.first().expect("an invite").invite.clone();
        let downloads = self.folder(&format!("{name}-downloads"));
        let downloads = downloads.to_str().expect("a path of text");
        let arguments = ["client", "--name", name, "--downloads", downloads, &invite];
        let node = Node::start(space, self.root.path(), &format!("{}-{name}", self.label), &arguments);
        self.master.talk(|talk| {
            // The client serves its person before the master has heard of it.
            let standing = |talk: &crate::node::Talk| talk.client(name).map(|row| row.standing);
            talk.until(name, |talk| standing(talk).filter(|standing| *standing == StandingRow::Registered));
            talk.ask(&Ask::Approve { ids: vec![name.to_owned()] });
        });
        let approved = |row: &bailiwick::node::local::ClientRow| row.standing == StandingRow::Approved;
        node.talk(|talk| talk.until("approval", |talk| talk.client(name).filter(approved)));
        node
    }

    /// Shares a file of noise as `NAME:film-NAME.bin`.
    pub(crate) fn share(&self, owner: &Node, name: &str, bytes: usize) -> PathBuf {
        let mut content = vec![0; bytes];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut content);
        let path = self.folder(&format!("{name}-films")).join(format!("film-{name}.bin"));
        std::fs::write(&path, content).expect("a file");
        owner.ask(&Ask::Add { paths: vec![path.clone()], copy: false, exclude: Vec::new() });
        path
    }
}
