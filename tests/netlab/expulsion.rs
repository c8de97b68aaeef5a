//! What an owner sends straight to who is out, and to anybody while no news reaches it.

use crate::link::Hole;
use crate::rights;
use crate::router::SERVER;
use crate::stage::Stage;
use crate::table::{say, seconds};
use bailiwick::node::local::{Command as Ask, JobRow, PathRow, Reply, StandingRow, TransferState};
use std::time::{Duration, Instant};

/// Bytes a second of every link.
const RATE: u64 = 2 << 20;
/// Bytes of the file: half a minute.
const FILE: usize = 60 << 20;
/// How much of it is there at first.
const BEFORE: u64 = 4 << 20;
/// From one client to the other and back.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// What a busy machine takes beside.
const GRACE: Duration = Duration::from_millis(500);
/// How long nothing must come.
const QUIET: Duration = Duration::from_secs(4);
/// For how long an owner goes by what it heard last; the least that a master can say.
const FRESH_FOR: Duration = Duration::from_secs(10);

fn goes_straight(row: &JobRow, way: Option<PathRow>) -> bool {
    way == Some(PathRow::Direct) && row.path == way && row.received_bytes > BEFORE
}

/// Milliseconds from one moment to another, whichever was first.
fn from_to(one: Instant, other: Instant) -> String {
    match other.checked_duration_since(one) {
        Some(after) => format!("{} ms after", after.as_millis()),
        None => format!("{} ms before", (one - other).as_millis()),
    }
}

#[test]
fn who_is_expelled_in_the_middle_gets_nothing_more_by_the_straight_way() {
    if !rights::are_there() {
        return;
    }
    let stage = Stage::new("expelled", RATE);
    let transfer = stage.transfer(FILE);
    transfer.until("the middle of it", goes_straight);
    let link = &stage.at_owner.customer.link;
    link.count(stage.at_owner.wan(), stage.at_asker.wan());
    transfer.until("packets", |_, _| link.counted().packets > 0);
    let (asked, known) = std::thread::scope(|scope| {
        let knows = scope.spawn(|| {
            stage.owner.talk(|talk| {
                let out = |talk: &crate::node::Talk| talk.client("phone").map(|row| row.standing);
                talk.until("the header", |talk| out(talk).filter(|is| *is == StandingRow::Disapproved));
                Instant::now()
            })
        });
        let asked = Instant::now();
        stage.group.master.ask(&Ask::Disapprove { ids: vec!["phone".to_owned()] });
        (asked, knows.join().expect("the owner hears of it"))
    });
    // What is seen is that nothing comes: that takes time.
    std::thread::sleep((known + ROUND_TRIP + GRACE).saturating_duration_since(Instant::now()));
    let then = link.counted();
    std::thread::sleep(QUIET);
    let (now, last) = (link.counted(), then.last.expect("it was under way"));
    say(&format!(
        "expelled: the owner was seen to know it {} the master was told, and its last packet left {} that",
        from_to(asked, known),
        from_to(known, last),
    ));
    assert_eq!(now.packets, then.packets, "bytes after the end: {}", now.bytes - then.bytes);
    assert_eq!(stage.owner.talk(|talk| talk.client("phone").expect("its row").path), None);
    let row = transfer.until("its end", |row, _| row.state == TransferState::Failed);
    assert!(row.received_bytes < FILE as u64);
}

#[test]
fn an_owner_that_hears_no_news_stops_when_what_it_knows_is_too_old() {
    if !rights::are_there() {
        return;
    }
    let stage = Stage::new("unheard", RATE);
    let policy = Ask::SetPolicy { master_away_wait_s: FRESH_FOR.as_secs() };
    stage.group.master.ask(&policy);
    stage.owner.talk(|talk| {
        talk.until("the policy", |talk| {
            let Reply::Policy(rows) = talk.ask(&Ask::Policy) else { panic!("no policy") };
            let seconds = FRESH_FOR.as_secs();
            rows.iter().any(|row| (row.wait_s, row.continue_s) == (seconds, seconds)).then_some(())
        });
    });
    let transfer = stage.transfer(FILE);
    transfer.until("the middle of it", goes_straight);
    stage.at_owner.customer.link.dig(Hole::Between(stage.at_owner.wan(), SERVER.into()));
    let hidden = Instant::now();
    let at = |after: Duration| {
        std::thread::sleep((hidden + after).saturating_duration_since(Instant::now()));
        transfer.row().received_bytes
    };
    let [first, later, end, quiet] =
        [Duration::ZERO, FRESH_FOR / 2, FRESH_FOR + ROUND_TRIP + GRACE, FRESH_FOR + QUIET].map(at);
    let mib = |bytes: u64| bytes >> 20;
    say(&format!(
        "no news: {} MiB were there, {} MiB after {}, {} MiB when it was too old, {} MiB {} later",
        mib(first),
        mib(later),
        seconds(FRESH_FOR / 2),
        mib(end),
        mib(quiet),
        seconds(QUIET - GRACE - ROUND_TRIP),
    ));
    assert!(later > first, "it went on without the server");
    assert!(end < FILE as u64, "it ended before it had to stop");
    assert_eq!(quiet, end);
    stage.at_owner.customer.link.mend();
    transfer.watch(|_, _| {});
}
