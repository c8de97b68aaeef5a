//! A server that lies: it drops what it should pass on, hides news from one member, or passes old frames on again.

use super::*;

/// Old frames that a lying server keeps, to pass them on again.
const KEPT_MAX: usize = 64;
/// An envelope of more bytes is more than a fresh word of the master: a server can tell them apart, and drops it.
const FRESH_WORD_BYTES: usize = 700;

/// What a server does that it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    /// Nothing: it is honest.
    None,
    /// It drops one frame of so many.
    Drops(u64),
    /// It hides all news of the log from this device, and passes fresh words of the master on.
    Hides(NodeId),
    /// It passes an old frame on again, with one of so many.
    Repeats(u64),
}

/// A frame that passed, to be passed on again.
pub(super) struct Kept {
    node: NodeId,
    to: Side,
    frame: Frame,
}

impl World {
    /// The server begins to lie.
    pub(crate) fn lie(&mut self, lies: Lies) {
        self.note(format!("the server lies: {lies:?}"));
        self.lies = lies;
        self.model.server_lied |= lies != Lies::None;
        self.coverage.event(match lies {
            Lies::None => "honest server",
            Lies::Drops(_) => "server drops frames",
            Lies::Hides(_) => "server hides news",
            Lies::Repeats(_) => "server repeats frames",
        });
    }

    /// An honest server takes its place, with the same database.
    pub(crate) fn lie_no_more(&mut self) {
        if self.lies != Lies::None {
            self.note("the server is honest again".to_owned());
            self.lies = Lies::None;
            self.kept.clear();
            self.crash_server();
            self.start_server();
        }
    }

    /// Whether a lying server lets a frame pass; it may pass an old one on besides.
    pub(super) fn passes_lies(&mut self, node: NodeId, to: Side, frame: &Frame) -> bool {
        match self.lies {
            Lies::None => true,
            Lies::Drops(one_of) => !self.dice.once_in(one_of),
            Lies::Hides(from) => to != Side::Node || node != from || !is_news(frame),
            Lies::Repeats(one_of) => {
                self.keep(node, to, frame);
                if self.dice.once_in(one_of) {
                    self.repeat();
                }
                true
            }
        }
    }

    fn keep(&mut self, node: NodeId, to: Side, frame: &Frame) {
        let worth_it = matches!(
            frame,
            Frame::Routed { .. }
                | Frame::Broadcast { .. }
                | Frame::Headers(_)
                | Frame::Head(_)
                | Frame::MasterBack(_)
                | Frame::ClientRegister { .. }
        );
        if worth_it {
            if self.kept.len() == KEPT_MAX {
                self.kept.remove(0);
            }
            self.kept.push(Kept { node, to, frame: frame.clone() });
        }
    }

    fn repeat(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let which = self.dice.below(self.kept.len() as u64) as usize;
        let Kept { node, to, frame } = &self.kept[which];
        let (node, to, frame) = (*node, *to, frame.clone());
        let open = self.links.values().rev().find(|link| link.node == node && link.node_open && link.server_open);
        let Some(conn) = open.map(|link| link.id) else { return };
        self.note(format!("{} {to:?} {} REPEATED {}", self.nodes[node].name, conn.0, label(&frame)));
        match to {
            Side::Node => self.tell(node, Input::Frame(conn, Box::new(frame))),
            // What a device sent goes to the master, or to the server's own core, once more.
            Side::Server => self.tell_server(ServerInput::Frame { conn, frame }),
        }
    }
}

fn is_news(frame: &Frame) -> bool {
    match frame {
        Frame::Broadcast { .. } | Frame::Headers(_) | Frame::Head(_) | Frame::MasterBack(_) => true,
        Frame::Routed { envelope, .. } => envelope.len() > FRESH_WORD_BYTES,
        _ => false,
    }
}
