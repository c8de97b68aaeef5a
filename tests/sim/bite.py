#!/usr/bin/env python3
"""Shows that the simulation bites: puts one bug at a time into a copy of the sources, and runs random worlds until one fails.

    tests/sim/bite.py                    all bugs, 10,000 worlds each at most
    tests/sim/bite.py --worlds 2000 NAME…  these bugs
    tests/sim/bite.py --list             what bugs there are

A bug is a replacement in one file; the text that it replaces must be there exactly once, so a bug that no longer fits the
sources is reported, not skipped.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name, what it is, file, the right text, the wrong text
BUGS = [
    ("number-unchecked", "the master does not check a request's number", "src/state/authority/request.rs",
     "if Some(number) != last_number.checked_add(1) {", "if number == 0 {"),
    ("last-answer-not-stored", "the master does not persist what a request came to", "src/node/member/pen.rs",
     "self.store.keep_last_request(&id, last.number, &last.content, &last.answer)?;", "let _ = (id, last);"),
    ("number-not-persisted", "a client does not persist its request before it is sent", "src/node/member/ask.rs",
     'Effect::Keep(number, outstanding) => self.store.set("requests", &(number, outstanding))?,',
     "Effect::Keep(..) => {}"),
    ("head-not-persisted", "a replica forgets the newest head that it was shown", "src/node/member/follow.rs",
     'Effect::KeepHead(head) => self.store.set("head", &head)?,', "Effect::KeepHead(_) => {}"),
    ("entry-while-loading", "broadcasts are applied while a snapshot is loaded", "src/state/replica.rs",
     "Judgement::Next if self.loading.is_none() => self.open_and_apply(header, body),",
     "Judgement::Next => self.open_and_apply(header, body),"),
    ("gate-open-at-start", "a master that starts signs at once", "src/state/authority/gate.rs",
     "if seen_by_others { Gate::Waiting(now.after(config.wait)) } else { Gate::Open }",
     "let _ = (now, seen_by_others, config);\n        Gate::Open"),
    ("expulsion-not-remembered", "the server does not store expulsions", "src/node/server/core.rs",
     "Record::Expulsion { group, device, header } => store.add_expulsion(group, device, header),",
     "Record::Expulsion { .. } => Ok(()),"),
    ("snapshot-without-revision", "a snapshot is swapped in without its revision", "src/store/member/snapshot.rs",
     'self.set("tip", &tip)?;', "let _ = tip;"),
    ("freshness-without-roster", "a fresh word counts whatever members it speaks of", "src/state/uploads.rs",
     "let reached = |head: &Head| head.membership == tip.membership;",
     "let reached = |head: &Head| head.membership == tip.membership || head.membership != tip.membership;"),
    ("fresh-for-ever", "an owner's fresh word never grows old", "src/state/uploads.rs",
     "self.is_master || self.fresh_at.is_some_and(|at| now.since(at) < self.fresh_for)",
     "let _ = now;\n        self.is_master || self.fresh_at.is_some()"),
    ("invite-not-used-up", "an invite lets any number of devices in", "src/state/authority/membership.rs",
     "        self.revoke_invite(&invite);\n        let id = PublicId", "        let id = PublicId"),
    ("invite-not-closed-on-disk", "a used invite is open again after a restart", "src/node/member/pen.rs",
     "Effect::CloseInvite(id) => self.store.drop_invite(&id)?,", "Effect::CloseInvite(_) => {}"),
    ("claim-before-sync", "chunks are claimed before they are synced", "src/state/downloads/progress.rs",
     "self.effects.push_back(Effect::Sync(transfer, chunks));",
     "let mut all = super::bits::Bits::restore(fetch.wanted.geometry.chunk_count(), &fetch.wanted.claimed);\n"
     "        chunks.iter().for_each(|chunk| {\n            all.insert(*chunk);\n        });\n"
     "        let claimed = all.as_bytes().to_vec();\n"
     "        self.effects.push_back(Effect::Claim { transfer, claimed, done: 0, received: 0 });\n"
     "        self.effects.push_back(Effect::Sync(transfer, chunks));"),
    ("claims-outlive-their-part", "claims are kept when their part file is gone", "src/state/downloads/mod.rs",
     "self.effects.push_back(Effect::Claim { transfer, claimed: Vec::new(), done: 0, received });", "let _ = received;"),
    ("master-back-not-sent", "members do not hear that the master is back", "src/state/router/headers.rs",
     "self.send_all(to, Frame::MasterBack(head));", "let _ = (to, head);"),
    ("head-not-passed-on", "members do not hear of newer heads", "src/state/router/headers.rs",
     "self.send_all(to, Frame::Head(signed));", "let _ = (to, signed);"),
    ("epoch-not-persisted", "the master forgets a new epoch's secret", "src/node/member/pen.rs",
     "                self.store.keep_epoch(&epoch)?;\n                let mut epochs", "                let mut epochs"),
    ("server-settled-always", "the server admits by whatever headers it has", "src/state/router/membership.rs",
     "(Some(_), Some(newest), Some(tip)) => tip.hash == newest.membership,", "(_, _, Some(_)) => true,"),
    ("sent-before-commit", "a failed write of the server leaves its outputs standing", "src/node/server/core.rs",
     "                self.store.rollback();\n                self.rebuild(now)?;\n                Err(StoreFailed(error.into()))",
     "                self.store.rollback();\n                let _ = error;\n                Ok(outputs)"),
    ("memory-ahead-of-disk", "the server keeps in memory what it could not store", "src/node/server/core.rs",
     "                self.store.rollback();\n                self.rebuild(now)?;", "                self.store.rollback();"),
    ("requests-not-repeated", "a request without an answer is not repeated", "src/state/requests.rs",
     "            self.sent = None;\n            self.go_on(now);\n        }\n    }\n\n    fn count_silence",
     "            self.go_on(now);\n        }\n    }\n\n    fn count_silence"),
    ("no-scan-at-start", "a scan that a crash interrupted is not done again", "src/node/member/session.rs",
     "        self.scan_all(cx)?;\n        self.settle(cx)", "        self.settle(cx)"),
    ("expulsions-not-shown", "a device does not show the server the expulsions that it knows", "src/node/member/session.rs",
     "        headers.extend(known);", "        let _ = known;"),
    ("gap-not-seen", "an entry is applied though one before it is missing", "src/state/chain.rs",
     "            return Judgement::Gap;", "            return Judgement::Next;"),
    ("dead-link", "a link that is given up is not dialled again", "src/state/link.rs",
     "            if self.dialing.is_none() {\n                self.dial(now);\n            }\n        } else if silent",
     "        } else if silent"),
    ("expelled-stays-approved", "an expelled device's connection stays what it was", "src/state/router/headers.rs",
     "        if !before.follows_membership() {\n            return;\n        }\n        self.place(now, conn);",
     "        if !before.follows_membership() {\n            return;\n        }\n        if !matches!(before, Phase::Approved) {\n            self.place(now, conn);\n        }"),
]


def copy_sources(to):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in tracked.decode().split("\0"):
        if name and (ROOT / name).is_file():
            target = to / name
            text = (ROOT / name).read_bytes()
            if target.exists() and target.read_bytes() == text:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)


def without_binary(copy):
    """The simulation needs the library alone, which is half the work of the compiler."""
    manifest = copy / "Cargo.toml"
    text = re.sub(r"\[\[bin\]\]\n(.+\n)+", "", manifest.read_text())
    text = re.sub(r"\[\[bench\]\]\n(.+\n)+", "", text)
    manifest.write_text(text.replace('[package]\n', '[package]\nautobins = false\nautobenches = false\n', 1))


def build(copy):
    command = ["cargo", "test", "--locked", "--profile", "sim", "--test", "sim", "--no-run"]
    environment = {**os.environ, "CARGO_TERM_COLOR": "never"}
    if "CARGO_TARGET_DIR" not in environment:
        environment["CARGO_TARGET_DIR"] = str(ROOT / "target" / "bite")
    built = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    found = re.search(r"Executable tests/sim/main.rs \((.*)\)", built.stderr)
    return (found and found.group(1)), built.stderr


def hunt(binary, copy, worlds):
    binary = (pathlib.Path(copy) / binary).resolve()
    environment = {**os.environ, "BAILIWICK_SIM_SEEDS": str(worlds), "BAILIWICK_SIM_FIRST": "0", "BAILIWICK_SIM_GO_ON": "0"}
    ran = subprocess.run([binary, "random_worlds", "--nocapture"], cwd=copy, env=environment, capture_output=True,
                         text=True, errors="replace")
    said = re.search(r"(\d+) worlds from seed", ran.stderr)
    why = re.search(r"^seed=\d+.*$", ran.stderr, re.M)
    return (int(said.group(1)) if said else None), (why.group(0) if why else None)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--worlds", type=int, default=10_000, help="worlds for each bug, at most")
    arguments.add_argument("--list", action="store_true", help="what bugs there are")
    arguments.add_argument("--copy", default=str(ROOT / "target" / "bite-sources"), help="where the copy of the sources goes")
    arguments.add_argument("bugs", nargs="*", help="names of bugs; all if there are none")
    asked = arguments.parse_args()
    bugs = [bug for bug in BUGS if not asked.bugs or bug[0] in asked.bugs]
    if asked.list:
        for name, what, path, _, _ in bugs:
            print(f"{name:28} {what} ({path})")
        return 0
    copy = pathlib.Path(asked.copy)
    found = 0
    for name, what, path, right, wrong in bugs:
        copy_sources(copy)
        without_binary(copy)
        file = copy / path
        text = file.read_text()
        if text.count(right) != 1:
            print(f"{name}: does not fit the sources any more ({path})", flush=True)
            continue
        file.write_text(text.replace(right, wrong))
        binary, said = build(copy)
        if not binary:
            print(f"{name}: does not compile\n{said[-1500:]}", flush=True)
            continue
        began = time.monotonic()
        worlds, why = hunt(binary, copy, asked.worlds)
        took = time.monotonic() - began
        if why:
            found += 1
            print(f"{name}: found after {worlds} worlds, {took:.0f} s: {why}", flush=True)
        else:
            print(f"{name}: NOT FOUND in {worlds} worlds, {took:.0f} s ({what})", flush=True)
    print(f"{found} of {len(bugs)} bugs were found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
