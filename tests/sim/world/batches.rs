//! Batches: what a node decides at once, and how it is carried out, cut short, or fails.

use super::*;

impl World {
    pub(super) fn tell(&mut self, node: NodeId, input: Input) {
        if self.nodes[node].alive {
            if matches!(input, Input::Finished(..)) {
                self.nodes[node].disk.folders_synced();
            }
            self.nodes[node].inbox.push(input);
            let soon = self.now + self.dice.below(3);
            self.wake_at(node, soon);
        }
    }

    /// A frame reaches the server as if a node had sent it just now.
    pub(crate) fn inject(&mut self, node: NodeId, frame: Frame) {
        let open = self.links.values().rev().find(|link| link.node == node && link.node_open && link.server_open);
        if let Some(conn) = open.map(|link| link.id) {
            self.note(format!("{} ->{} INJECTED {}", self.nodes[node].name, conn.0, label(&frame)));
            self.tell_server(ServerInput::Frame { conn, frame });
        }
    }

    pub(super) fn tell_later(&mut self, node: NodeId, input: Input) {
        // What a device's own disk and data plane tell comes in the order in which it happened.
        let (when, life) = (self.soon().max(self.nodes[node].told_at), self.nodes[node].life);
        self.nodes[node].told_at = when;
        self.at(when, Event::Told(node, life, Box::new(input)));
    }

    pub(super) fn wake_at(&mut self, node: NodeId, when: u64) {
        let one = &mut self.nodes[node];
        if one.core.is_none() || one.wake_at.is_some_and(|at| at <= when) {
            return;
        }
        one.wake_at = Some(when);
        let life = one.life;
        self.at(when, Event::Wake(node, life));
    }

    pub(super) fn wake(&mut self, node: NodeId) {
        if self.nodes[node].wake_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.nodes[node].wake_at = None;
        if self.nodes[node].frozen_until > self.now {
            return self.wake_at(node, self.nodes[node].frozen_until);
        }
        if self.nodes[node].core.is_none() {
            return;
        }
        self.count_batch(node);
        let inputs = std::mem::take(&mut self.nodes[node].inbox);
        let crash = self.crash_point(node);
        if crash == Some(CrashPoint::Before) {
            return self.crash_and_return(node);
        }
        let fails = self.dice.once_in(self.faults.failed_write);
        let (now, wall_ms) = (Time(self.now), self.wall(node));
        let Some(core) = &mut self.nodes[node].core else { return };
        if fails {
            core.store().set_read_only(true).expect("a pragma");
        }
        let mut cx = Cx { now, wall_ms, random: &mut self.dice };
        match core.handle(&mut cx, inputs) {
            Ok(outputs) => {
                if fails {
                    core.store().set_read_only(false).expect("a pragma");
                }
                let written = self.committed(node);
                let crash = crash.or_else(|| self.rare_crash(outputs.iter().map(coverage::kind)));
                let told = self.told_before(crash, outputs.len());
                if crash.is_some() {
                    let role = if node == 0 { Role::Master } else { Role::Client };
                    self.coverage.crash(role, outputs.get(told).map(coverage::kind));
                }
                for output in outputs.into_iter().take(told) {
                    self.carry_out(node, output);
                }
                if crash.is_some() {
                    return self.crash_and_return(node);
                }
                self.check_ways(node);
                if written {
                    self.nodes[node].policy_before = self.nodes[node].policy();
                }
            }
            Err(error) if fails => return self.reopen(node, &error.to_string()),
            Err(error) => self.fail(&format!("{} can't write: {error}", self.nodes[node].name)),
        }
        let next = self.nodes[node].core.as_ref().and_then(MemberCore::poll_timeout);
        if let Some(next) = next {
            self.wake_at(node, next.0.max(self.now + 1));
        }
    }

    pub(super) fn count_batch(&mut self, node: NodeId) {
        let second = self.now / 1_000;
        let batches = &mut self.nodes[node].batches;
        if batches.0 != second {
            *batches = (second, 0);
        }
        batches.1 += 1;
        if batches.1 > BATCHES_PER_SECOND_MAX {
            self.fail(&format!("{} never rests", self.nodes[node].name));
        }
    }

    pub(super) fn crash_point(&mut self, node: NodeId) -> Option<CrashPoint> {
        match &mut self.nodes[node].crash_in {
            Some((0, point)) => {
                let point = *point;
                self.nodes[node].crash_in = None;
                return Some(point);
            }
            Some((batches, _)) => *batches -= 1,
            None => {}
        }
        if self.dice.once_in(self.faults.crash_before) {
            return Some(CrashPoint::Before);
        }
        self.dice.once_in(self.faults.crash_after).then_some(CrashPoint::Anywhere)
    }

    /// A crash before an output of a kind that few batches have.
    pub(super) fn rare_crash(&mut self, kinds: impl Iterator<Item = &'static str>) -> Option<CrashPoint> {
        let rare = kinds.enumerate().filter_map(|(told, kind)| Some((told, coverage::rarity(kind)?)));
        let (told, likelier) = rare.max_by_key(|(_, likelier)| *likelier)?;
        self.dice.once_in(self.faults.crash_after.div_ceil(likelier)).then_some(CrashPoint::After(told))
    }

    /// How many of a batch's outputs go out.
    pub(super) fn told_before(&mut self, crash: Option<CrashPoint>, outputs: usize) -> usize {
        match crash {
            Some(CrashPoint::After(told)) => told.min(outputs),
            Some(CrashPoint::Anywhere) => self.dice.below(outputs as u64 + 1) as usize,
            Some(CrashPoint::Before) | None => outputs,
        }
    }

    pub(super) fn crash_and_return(&mut self, node: NodeId) {
        let quick = self.dice.once_in(2);
        let pause = if quick { self.dice.between(20, 1_500) } else { self.dice.between(1_000, 90_000) };
        self.crash_for(node, pause);
    }

    /// What the real shell does after a failed write: the core is dropped, all connections are closed, the core is read
    /// from disk again a second later. What came meanwhile still comes in.
    pub(super) fn reopen(&mut self, node: NodeId, why: &str) {
        self.note(format!("{} can't write: {why}", self.nodes[node].name));
        let Some(core) = self.nodes[node].core.take() else { return };
        self.nodes[node].store = Some(core.into_store());
        let links: Vec<ConnId> =
            self.links.values().filter(|link| link.node == node && link.node_open).map(|link| link.id).collect();
        for conn in links {
            self.close(conn, Side::Node, CloseCode::Internal);
        }
        self.leaves_straight_ways(node, Some(CloseCode::Internal));
        self.purposes.retain(|(of, _), _| *of != node);
        // No new life: the data plane and the network go on.
        self.at(self.now + REOPEN_MS, Event::Reopen(node));
    }

    pub(super) fn carry_out(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Dial(attempt, server) => {
                self.next_id += 1;
                self.dials += 1;
                let conn = ConnId(self.next_id);
                // Nobody answers at the address of a server that is gone.
                if server == self.server.address {
                    self.links.insert(conn, Link::new(conn, node));
                }
                let (when, life) = (self.soon(), self.nodes[node].life);
                self.at(when, Event::Dials(conn, attempt, life));
                if server != self.server.address {
                    self.at(self.now + DIAL_MS, Event::DialFails(node, attempt, life));
                }
            }
            Output::Send(conn, frame) => {
                if self.way_of(conn).is_some() {
                    self.sends_straight(conn, Piece::Frame(frame));
                } else {
                    self.send(conn, Side::Server, *frame);
                }
            }
            Output::SendBulk(conn, frame) => {
                self.send(conn, Side::Server, *frame);
                self.tell_later(node, Input::Drained(conn));
            }
            Output::Close(conn, code) => {
                if !self.closes_straight(conn, code) {
                    self.close(conn, Side::Node, code);
                }
            }
            Output::Streams(..) => self.nodes[node].plane.streams(),
            Output::DialPeer(dial, key, to) => self.dial_peer(node, dial, key, to),
            Output::Probe(to, probe) => self.probe(node, to, probe),
            Output::PeerHello(conn, group, head) => self.says_peer_hello(node, conn, group, head),
            Output::PeerStreams(conn, ..) => self.takes_streams_straight(conn),
            // Nobody announces anything on these local networks, no router maps a port, and there is no IPv6.
            Output::Announce(_) | Output::MapPort(_) | Output::ProbeServer(..) => {}
            Output::Epochs(epochs) => self.nodes[node].plane.epochs(epochs.iter().map(|epoch| epoch.id)),
            Output::Open(place) => {
                let (transfer, opening) = (place.transfer, place.opening);
                let one = &mut self.nodes[node];
                let opened = one.plane.open(&mut one.disk, *place);
                let note = format!("{} opens {transfer}: {opened:?}", one.name);
                self.note(note);
                self.tell_later(node, Input::Opened(transfer, opening, opened));
            }
            Output::Expect(request, units, by) => self.nodes[node].plane.expect(request, units, by),
            Output::Join(request, units) => {
                for unit in self.nodes[node].plane.join(request, units) {
                    self.tell_later(node, Input::Came(unit, bailiwick::state::downloads::Came::Broken));
                }
            }
            Output::Forget(request, units) => self.nodes[node].plane.forget(request, &units),
            Output::Sync(transfer, chunks) => {
                let fails = self.dice.once_in(self.faults.failed_sync);
                let one = &mut self.nodes[node];
                if fails {
                    self.coverage.event("part not synced");
                    self.tell_later(node, Input::Synced(transfer, chunks, false));
                } else if one.plane.sync(&mut one.disk, transfer) {
                    self.tell_later(node, Input::Synced(transfer, chunks, true));
                }
            }
            Output::Look(job, folder, looks) => {
                let one = &self.nodes[node];
                let seen = one.plane.look(&one.disk, &folder, &looks);
                self.tell_later(node, Input::Looked(job, seen));
            }
            Output::Finish(transfers) => {
                for transfer in transfers {
                    let one = &mut self.nodes[node];
                    match one.plane.finish(&mut one.disk, transfer) {
                        Ok(Some((outcome, name))) => {
                            if let Some(name) = name {
                                self.tell_later(node, Input::Renamed(transfer, name));
                            }
                            self.tell_later(node, Input::Finished(transfer, outcome));
                        }
                        Ok(None) => {}
                        Err(why) => self.fail(&format!("{}: {why}", self.nodes[node].name)),
                    }
                }
            }
            Output::Drop(transfer, leftover) => {
                let one = &mut self.nodes[node];
                if one.plane.drop_transfer(&mut one.disk, transfer, leftover) {
                    self.tell_later(node, Input::Cleared(transfer));
                }
            }
            // What is on its way arrives all the same, as it may in a network.
            Output::Unsend(..) | Output::StopUploads(_) => {}
            Output::Upload(upload, source) => self.upload(node, upload, source),
            Output::Scan(scan, order) => {
                let (seen, report) = self.nodes[node].disk.scan(&order);
                let sightings = seen.iter().map(|(_, sighting)| sighting.clone()).collect();
                self.nodes[node].plane.scans.insert(scan, (seen, report));
                self.tell_later(node, Input::Sighted(scan, sightings, Vec::new()));
            }
            Output::Hash(scan, wanted) => {
                let Some((seen, report)) = self.nodes[node].plane.scans.remove(&scan) else { return };
                let disk = &self.nodes[node].disk;
                let wanted = wanted.into_iter().filter_map(|index| seen.get(index as usize));
                let staged: Vec<_> = wanted.filter_map(|(path, one)| disk.hash(&mut self.dice, path, one)).collect();
                if !staged.is_empty() {
                    self.tell_later(node, Input::Staged(scan, staged));
                }
                let (when, life) = (self.now + self.delay_max + 1, self.nodes[node].life);
                self.at(when, Event::Told(node, life, Box::new(Input::ScanEnded(scan, Box::new(report)))));
            }
            Output::EndScan(scan) => drop(self.nodes[node].plane.scans.remove(&scan)),
            Output::DeleteCopies(_) => {}
            Output::Reply(token, reply) => self.replied(node, token, reply),
            Output::Event(name, detail) => self.note(format!("{} event {name} {detail:?}", self.nodes[node].name)),
            Output::Stopped => self.crash_for(node, self.nodes[node].restart_after),
            Output::Erase => {
                self.note(format!("{} has left", self.nodes[node].name));
                self.nodes[node].has_left = true;
                let key = self.nodes[node].key();
                self.model.promises.left.insert(key);
                self.nodes[node].fatal = Some(LocalError::new(ErrorCode::Refused, "it has left", ""));
                self.crash(node);
            }
            Output::Fatal(error) => {
                self.note(format!("{} ends: {error}", self.nodes[node].name));
                self.nodes[node].fatal = Some(error);
                self.crash(node);
            }
        }
    }
}
