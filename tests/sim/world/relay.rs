//! The server: its batches, and what it sends, held against what it may.

use super::*;

impl World {
    pub(super) fn tell_server(&mut self, input: ServerInput) {
        if self.server.core.is_some() {
            self.server.inbox.push(input);
            let soon = self.now + self.dice.below(3);
            self.wake_server_at(soon);
        }
    }

    pub(super) fn wake_server_at(&mut self, when: u64) {
        if self.server.core.is_none() || self.server.wake_at.is_some_and(|at| at <= when) {
            return;
        }
        self.server.wake_at = Some(when);
        let life = self.server.life;
        self.at(when, Event::WakeServer(life));
    }

    pub(super) fn wake_server(&mut self) {
        if self.server.wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.server.wake_at = None;
        let second = self.now / 1_000;
        if self.server.batches.0 != second {
            self.server.batches = (second, 0);
        }
        self.server.batches.1 += 1;
        if self.server.batches.1 > BATCHES_PER_SECOND_MAX {
            self.fail("the server never rests");
        }
        let mut inputs = std::mem::take(&mut self.server.inbox);
        inputs.push(ServerInput::Tick);
        let crash = self.server_crash_point();
        if crash == Some(CrashPoint::Before) {
            return self.crash_server_and_return();
        }
        let fails = self.dice.once_in(self.faults.failed_write);
        let Some(core) = &mut self.server.core else { return };
        if fails {
            core.store().set_read_only(true).expect("a pragma");
        }
        let before = self.model.server.clone();
        let decided = core.handle(Time(self.now), inputs);
        if fails {
            core.store().set_read_only(false).expect("a pragma");
        }
        match decided {
            Ok(outputs) => {
                self.server_committed();
                let crash = crash.or_else(|| self.rare_crash(outputs.iter().map(coverage::server_kind)));
                let told = self.told_before(crash, outputs.len());
                if crash.is_some() {
                    self.coverage.crash(Role::Server, outputs.get(told).map(coverage::server_kind));
                }
                for output in outputs.into_iter().take(told) {
                    self.check_server_output(&before, &output);
                    self.server_does(output);
                }
                if crash.is_some() {
                    return self.crash_server_and_return();
                }
            }
            Err(error) if fails => {
                self.note(format!("server: {error}"));
                self.forget_server_connections();
                self.server.inbox.clear();
            }
            Err(error) => self.fail(&format!("the server can't write: {error}")),
        }
        if let Some(next) = self.server.core.as_ref().and_then(ServerCore::poll_timeout) {
            self.wake_server_at(next.0.max(self.now + 1));
        }
    }

    pub(super) fn server_crash_point(&mut self) -> Option<CrashPoint> {
        match &mut self.server.crash_in {
            Some((0, point)) => {
                let point = *point;
                self.server.crash_in = None;
                return Some(point);
            }
            Some((batches, _)) => *batches -= 1,
            None => {}
        }
        if self.dice.once_in(self.faults.crash_before * 2) {
            return Some(CrashPoint::Before);
        }
        self.dice.once_in(self.faults.crash_after * 2).then_some(CrashPoint::Anywhere)
    }

    pub(super) fn crash_server_and_return(&mut self) {
        let quick = self.dice.once_in(2);
        let pause = if quick { self.dice.between(20, 1_500) } else { self.dice.between(1_000, 60_000) };
        self.crash_server_for(pause);
    }

    pub(super) fn server_committed(&mut self) {
        let Some(core) = &self.server.core else { return };
        let writes = Some(core.store().writes());
        if std::mem::replace(&mut self.server.checked, writes) == writes {
            return;
        }
        let groups = core.store().groups().expect("a store");
        if let Err(why) = self.model.server_committed(&groups) {
            self.fail(&why);
        }
    }

    pub(super) fn check_server_output(&self, before: &crate::model::ServerView, output: &ServerOutput) {
        let check = |conn: &ConnId, what: &dyn Fn(DeviceKey) -> Result<(), String>| {
            let Some(link) = self.links.get(conn) else { return };
            let node = &self.nodes[link.node];
            if let Err(why) = what(node.key()) {
                self.fail(&format!("the server sends {} {why}", node.name));
            }
        };
        match output {
            ServerOutput::Send { to, frame } => {
                to.iter().for_each(|conn| check(conn, &|key| self.model.may_get(before, key, frame)));
            }
            ServerOutput::SendCounted { conn, frame, .. } => {
                check(conn, &|key| self.model.may_get(before, key, frame));
            }
            ServerOutput::Forward { asker, .. } => check(asker, &|key| self.model.may_get_chunks(before, key)),
            _ => {}
        }
    }

    pub(super) fn server_does(&mut self, output: ServerOutput) {
        match output {
            ServerOutput::Classed { .. } => {}
            ServerOutput::Send { to, frame } => {
                to.into_iter().for_each(|conn| self.send(conn, Side::Node, frame.clone()));
            }
            ServerOutput::SendCounted { conn, frame, bytes } => {
                self.send(conn, Side::Node, frame);
                let (when, life) = (self.soon(), self.server.life);
                self.at(when, Event::ServerTold(life, Box::new(ServerInput::Sent { conn, bytes })));
            }
            ServerOutput::Close { conn, code } => self.close(conn, Side::Server, code),
            ServerOutput::Receive { stream, entry } => {
                if let Some(one) = self.streams.get_mut(&stream) {
                    one.entry = Some(entry);
                    self.server.entries.insert(entry, (stream, false));
                    let soon = self.soon();
                    self.at(soon, Event::Received(stream));
                }
            }
            ServerOutput::StopStream { stream, .. } => self.stop_stream(stream),
            ServerOutput::Forward { forward, entry, asker, request } => {
                self.server.forwards.insert(forward, (entry, asker, request));
                let soon = self.soon() + self.dice.between(0, self.relay_delay_max);
                self.at(soon, Event::Forwards(forward));
            }
            ServerOutput::EndForward { forward, .. } => {
                self.server.forwards.remove(&forward);
            }
            ServerOutput::Drop { entry } => {
                if let Some((stream, complete)) = self.server.entries.remove(&entry) {
                    if complete { drop(self.streams.remove(&stream)) } else { self.stop_stream(stream) }
                }
            }
        }
    }
}
