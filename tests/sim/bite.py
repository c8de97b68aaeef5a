#!/usr/bin/env python3
"""Shows that the simulation bites: plants bugs in a copy of the sources, and runs random worlds until each is found.

    tests/sim/bite.py                      all bugs, 10,000 worlds each at most
    tests/sim/bite.py --worlds 2000 NAME…  these bugs
    tests/sim/bite.py --list               what bugs there are

All bugs are compiled into one binary; `BAILIWICK_BUG` says which of them is alive. A bug is a replacement in one file. The text
that it replaces must be there exactly once, so a bug that no longer fits the sources is an error. With none alive the binary
must find nothing in as many worlds as the slowest bug took, or its finds would mean little.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SWITCH = '''
/// Whether a planted bug is alive.
#[doc(hidden)]
pub fn bug(name: &str) -> bool {
    static ALIVE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| std::env::var("BAILIWICK_BUG").unwrap_or_default());
    *ALIVE == name
}
'''

# Name, what it is, file, the right text, the text with the bug; `BUG` is whether it is alive.
BUGS = [
    ("number-unchecked", "the master does not check a request's number", "src/state/authority/request.rs",
     "if Some(number) != last_number.checked_add(1) {", "if !BUG && Some(number) != last_number.checked_add(1) {"),
    ("last-answer-not-stored", "the master does not persist what a request came to", "src/node/member/pen.rs",
     "self.store.keep_last_request(&id, last.number, &last.content, &last.answer)?;",
     "if !BUG { self.store.keep_last_request(&id, last.number, &last.content, &last.answer)?; }"),
    ("number-not-persisted", "a client does not persist its request before it is sent", "src/node/member/ask.rs",
     'Effect::Keep(number, outstanding) => self.store.set("requests", &(number, outstanding))?,',
     'Effect::Keep(number, outstanding) => if !BUG { self.store.set("requests", &(number, outstanding))? },'),
    ("head-not-persisted", "a replica forgets the newest head that it was shown", "src/node/member/follow.rs",
     'Effect::KeepHead(head) => self.store.set("head", &head)?,',
     'Effect::KeepHead(head) => if !BUG { self.store.set("head", &head)? },'),
    ("entry-while-loading", "broadcasts are applied while a snapshot is loaded", "src/state/replica.rs",
     "Judgement::Next if self.loading.is_none() => self.open_and_apply(header, body),",
     "Judgement::Next if BUG || self.loading.is_none() => self.open_and_apply(header, body),"),
    ("gate-open-at-start", "a master that starts signs at once", "src/state/authority/gate.rs",
     "if seen_by_others { Gate::Waiting(now.after(config.wait)) } else { Gate::Open }",
     "if seen_by_others && !BUG { Gate::Waiting(now.after(config.wait)) } else { Gate::Open }"),
    ("expulsion-not-remembered", "the server does not store expulsions", "src/node/server/core.rs",
     "Record::Expulsion { group, device, header } => store.add_expulsion(group, device, header),",
     "Record::Expulsion { group, device, header } => if BUG { Ok(()) } else { store.add_expulsion(group, device, header) },"),
    ("snapshot-without-revision", "a snapshot is swapped in without its revision", "src/store/member/snapshot.rs",
     'self.set("tip", &tip)?;', 'if !BUG { self.set("tip", &tip)?; }'),
    ("freshness-without-roster", "a fresh word counts whatever members it speaks of", "src/state/uploads.rs",
     "let reached = |head: &Head| head.membership == tip.membership;",
     "let reached = |head: &Head| BUG || head.membership == tip.membership;"),
    ("fresh-for-ever", "an owner's fresh word never grows old", "src/state/uploads.rs",
     "self.fresh_at.is_some_and(|at| now.since(at) < age_max);",
     "self.fresh_at.is_some_and(|at| BUG || now.since(at) < age_max);"),
    ("invite-not-used-up", "an invite lets any number of devices in", "src/state/authority/membership.rs",
     "        self.revoke_invite(&invite);\n        let id = PublicId",
     "        if !BUG { self.revoke_invite(&invite); }\n        let id = PublicId"),
    ("invite-not-closed-on-disk", "a used invite is open again after a restart", "src/node/member/pen.rs",
     "Effect::CloseInvite(id) => self.store.drop_invite(&id)?,",
     "Effect::CloseInvite(id) => if !BUG { self.store.drop_invite(&id)? },"),
    ("claim-before-sync", "chunks are claimed before they are synced", "src/state/downloads/progress.rs",
     "self.effects.push_back(Effect::Sync(transfer, chunks));",
     "if BUG {\n"
     "            let mut all = super::bits::Bits::restore(fetch.wanted.geometry.chunk_count(), &fetch.wanted.claimed);\n"
     "            chunks.iter().for_each(|chunk| {\n                all.insert(*chunk);\n            });\n"
     "            let claimed = all.as_bytes().to_vec();\n"
     "            self.effects.push_back(Effect::Claim { transfer, claimed, done: 0, received: 0 });\n"
     "        }\n"
     "        self.effects.push_back(Effect::Sync(transfer, chunks));"),
    ("master-back-not-sent", "members do not hear that the master is back", "src/state/router/headers.rs",
     "self.send_all(to, Frame::MasterBack(head));", "if !BUG { self.send_all(to, Frame::MasterBack(head)); }"),
    ("head-not-passed-on", "members do not hear of newer heads", "src/state/router/headers.rs",
     "self.send_all(to, Frame::Head(signed));", "if !BUG { self.send_all(to, Frame::Head(signed)); }"),
    ("epoch-not-persisted", "the master forgets a new epoch's secret", "src/node/member/pen.rs",
     "                self.store.keep_epoch(&epoch)?;\n                let mut epochs",
     "                if !BUG { self.store.keep_epoch(&epoch)?; }\n                let mut epochs"),
    ("server-settled-always", "the server admits by whatever headers it has", "src/state/router/membership.rs",
     "(Some(_), Some(newest), Some(tip)) => tip.hash == newest.membership,",
     "(Some(_), Some(newest), Some(tip)) => BUG || tip.hash == newest.membership,"),
    ("sent-before-commit", "a failed write of the server leaves its outputs standing", "src/node/server/core.rs",
     "                Err(StoreFailed(error.into()))",
     "                if BUG { Ok(outputs) } else { Err(StoreFailed(error.into())) }"),
    ("memory-ahead-of-disk", "the server keeps in memory what it could not store", "src/node/server/core.rs",
     "                self.store.rollback();\n                self.rebuild(now)?;",
     "                self.store.rollback();\n                if !BUG { self.rebuild(now)?; }"),
    ("requests-not-repeated", "a request without an answer is not repeated", "src/state/requests.rs",
     "            self.sent = None;\n            self.go_on(now);\n        }\n    }\n\n    fn count_silence",
     "            if !BUG { self.sent = None; }\n            self.go_on(now);\n        }\n    }\n\n    fn count_silence"),
    ("no-scan-at-start", "a scan that a crash interrupted is not done again", "src/node/member/session.rs",
     "        self.scan_all(cx)?;\n", "        if !BUG { self.scan_all(cx)?; }\n"),
    ("expulsions-not-shown", "a device does not show the server the expulsions that it knows", "src/node/member/session.rs",
     "        headers.extend(known);", "        if !BUG { headers.extend(known); }"),
    ("gap-not-seen", "an entry is applied though one before it is missing", "src/state/chain.rs",
     "            return Judgement::Gap;", "            return if BUG { Judgement::Next } else { Judgement::Gap };"),
    ("dead-link", "a link that is given up is not dialled again", "src/state/link.rs",
     "            // Who slept from the ping until now has not dialled beside it.\n            if !self.is_dialing() {",
     "            if !self.is_dialing() && !BUG {"),
    ("expelled-stays-approved", "an expelled device's connection stays what it was", "src/state/router/headers.rs",
     "        if !before.follows_membership() {\n            return;\n        }\n        self.place(now, conn);",
     "        if !before.follows_membership() {\n            return;\n        }\n"
     "        if !(BUG && matches!(before, Phase::Approved)) {\n            self.place(now, conn);\n        }"),
    ("stale-opening", "how an earlier core's opening of a place went counts", "src/node/member/fetch.rs",
     "filter(|(awaited, _)| *awaited == number)?;", "filter(|(awaited, _)| BUG || *awaited == number)?;"),
    ("parts-of-the-expelled", "parts of paused jobs stay when a device is expelled", "src/node/member/fetch.rs",
     "return self.clear_leavings();", "return if BUG { Ok(()) } else { self.clear_leavings() };"),
    ("place-kept", "a transfer keeps a place where another one's part lies", "src/node/member/fetch.rs",
     "self.outputs.push(Output::Drop(transfer, Leftover::Keep));",
     "if !BUG { self.outputs.push(Output::Drop(transfer, Leftover::Keep)); }"),
    ("claims-outlive-their-part", "claims are kept when their part file is gone", "src/node/member/fetch.rs",
     "has_claims: wanted.claimed", "has_claims: !BUG && wanted.claimed"),
    ("stranger-meets-straight", "a straight connection to who is no member stays", "src/node/member/straight.rs",
     "let out: Vec<DeviceKey> = self.paths.peers().filter(|key| !self.is_met(key)).copied().collect();",
     "let out: Vec<DeviceKey> = self.paths.peers().filter(|key| !BUG && !self.is_met(key)).copied().collect();"),
    ("straight-units-not-asked-again", "what was asked for on a straight way that is gone is not asked for again",
     "src/node/member/straight.rs",
     "self.downloads.straight_lost(cx.now, conn);", "if !BUG { self.downloads.straight_lost(cx.now, conn); }"),
    ("uploads-before-hello", "chunks go straight to who has not said hello", "src/node/member/straight.rs",
     "Frame::UploadChunk { request, ranges } if verified => {", "Frame::UploadChunk { request, ranges } if BUG || verified => {"),
    ("asks-before-hello", "a straight way counts before the other device's hello", "src/state/paths/conns.rs",
     "peer.conns.push(Conn { id: conn, dialled: true, verified: false, since: now, used: now });",
     "peer.conns.push(Conn { id: conn, dialled: true, verified: false, since: now, used: now });\n"
     "        if BUG {\n            self.verified(now, conn);\n        }"),
    ("dial-unanswered", "a device dials where no pong came from", "src/state/paths/punch.rs",
     "self.checks.push(Check { address, offered, pings: 0, due: now, answered: None, refused: false });",
     "self.checks.push(Check { address, offered, pings: 0, due: now, answered: BUG.then_some(now), refused: false });"),
    ("pings-uncounted", "pings to an address are not counted", "src/state/paths/caps.rs",
     "let may = self.count < max;", "let may = BUG || self.count < max;"),
    ("plain-through-server", "chunks pass the server unsealed", "src/node/member/serve.rs",
     "let sealed = self.link.current() == Some(conn);", "let sealed = !BUG && self.link.current() == Some(conn);"),
    ("relay-only-straight", "a job that is to be relayed alone takes straight ways, and cuts off the rest",
     "src/state/downloads/ask.rs",
     "let straight = self.straight.get(&lane.0).copied().filter(|_| way.permits(true));",
     "let straight = self.straight.get(&lane.0).copied().filter(|_| BUG || way.permits(true));"),
    ("old-server-request-counts", "what was asked for through a lost server is still awaited", "src/state/downloads/mod.rs",
     "self.give_back_all(|way| way.is_none());", "self.give_back_all(|way| !BUG && way.is_none());"),
]


def planted():
    """The sources with all bugs in them, none alive, by file."""
    files = {}
    for name, _, path, right, wrong in BUGS:
        text = files.get(path) or (ROOT / path).read_text()
        if text.count(right) != 1:
            sys.exit(f"{name} does not fit the sources any more ({path})")
        files[path] = text.replace(right, wrong.replace("BUG", f'crate::bug("{name}")'))
    files["src/lib.rs"] = (ROOT / "src/lib.rs").read_text() + SWITCH
    # The simulation needs the library alone, which is half the work of the compiler.
    manifest = re.sub(r"\[\[(bin|bench)\]\]\n(.+\n)+", "", (ROOT / "Cargo.toml").read_text())
    files["Cargo.toml"] = manifest.replace("[package]\n", "[package]\nautobins = false\nautobenches = false\n", 1)
    return files


def write_sources(to):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    changed = planted()
    for name in tracked.split("\0"):
        if not name or not (ROOT / name).is_file():
            continue
        text = changed[name].encode() if name in changed else (ROOT / name).read_bytes()
        target = to / name
        if not target.exists() or target.read_bytes() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)


def build(copy):
    command = ["cargo", "test", "--locked", "--profile", "sim", "--test", "sim", "--no-run"]
    environment = {"CARGO_TARGET_DIR": str(ROOT / "target" / "bite"), **os.environ, "CARGO_TERM_COLOR": "never"}
    built = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    found = re.search(r"Executable tests/sim/main.rs \((.*)\)", built.stderr)
    if not found:
        sys.exit(f"the bugs do not compile:\n{built.stderr[-3000:]}")
    return (copy / found.group(1)).resolve()


def hunt(binary, bug, worlds):
    """How many worlds it took, and what was violated; nothing if nothing was."""
    environment = {**os.environ, "BAILIWICK_BUG": bug, "BAILIWICK_SIM_SEEDS": str(worlds), "BAILIWICK_SIM_FIRST": "0",
                   "BAILIWICK_SIM_GO_ON": "0"}
    ran = subprocess.run([binary, "random_worlds", "--nocapture"], cwd=ROOT, env=environment, capture_output=True,
                         text=True, errors="replace")
    said = re.search(r"(\d+) worlds from seed", ran.stderr)
    why = re.search(r"^seed=\d+.*$", ran.stderr, re.M)
    if not said:
        sys.exit(f"{bug}: the worlds were not run:\n{ran.stderr[-1500:]}")
    return int(said.group(1)), why and why.group(0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--worlds", type=int, default=10_000, help="worlds for each bug, at most")
    arguments.add_argument("--list", action="store_true", help="what bugs there are")
    arguments.add_argument("--copy", default=str(ROOT / "target" / "bite-sources"), help="where the copy of the sources goes")
    arguments.add_argument("bugs", nargs="*", help="names of bugs; all if there are none")
    asked = arguments.parse_args()
    unknown = set(asked.bugs) - {bug[0] for bug in BUGS}
    if unknown:
        sys.exit(f"no such bug: {', '.join(sorted(unknown))}; --list names them")
    bugs = [bug for bug in BUGS if not asked.bugs or bug[0] in asked.bugs]
    if asked.list:
        for name, what, path, _, _ in bugs:
            print(f"{name:28} {what} ({path})")
        return 0
    copy = pathlib.Path(asked.copy)
    write_sources(copy)
    binary = build(copy)
    found, slowest = 0, 0
    for name, what, *_ in bugs:
        began = time.monotonic()
        worlds, why = hunt(binary, name, asked.worlds)
        took = time.monotonic() - began
        if why:
            found, slowest = found + 1, max(slowest, worlds)
            print(f"{name}: found after {worlds} worlds, {took:.0f} s: {why}", flush=True)
        else:
            print(f"{name}: NOT FOUND in {worlds} worlds, {took:.0f} s ({what})", flush=True)
    _, why = hunt(binary, "none", max(slowest, 1))
    print(f"none alive: {why or f'nothing found in {slowest} worlds'}", flush=True)
    print(f"{found} of {len(bugs)} bugs were found", flush=True)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
