use super::bits::Bits;
use super::fetch::Wanted;
use super::*;
use crate::wire::geometry::{ChunkSize, Geometry, LIST_INDEX_FIRST};

const OWNER: PublicId = PublicId([1; 16]);
const OTHER: PublicId = PublicId([2; 16]);
const KIB: u64 = 1 << 10;

fn wanted(transfer: TransferId, owner: PublicId, size: u64) -> Wanted {
    Wanted {
        transfer,
        job: 1,
        way: Way::Any,
        owner,
        content: ContentId([transfer as u8; 16]),
        geometry: Geometry::new(size, ChunkSize::small(10)).unwrap(),
        has_list: false,
        claimed: Vec::new(),
        received: 0,
        kept_done: 0,
        kept_received: 0,
    }
}

fn small_credit() -> DownloadsConfig {
    DownloadsConfig { credit_min: 4 * KIB, credit_max: 4 * KIB, claim_bytes: 4 * KIB, ..DownloadsConfig::default() }
}

fn effects(downloads: &mut Downloads) -> Vec<Effect> {
    std::iter::from_fn(|| downloads.poll_effect()).collect()
}

fn asked(effects: Vec<Effect>) -> Vec<(u64, Asked)> {
    effects
        .into_iter()
        .flat_map(|effect| match effect {
            Effect::Ask { request, units, .. } => units.into_iter().map(|unit| (request, unit)).collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// Downloads of these files, linked and opened.
fn begun(config: DownloadsConfig, files: Vec<Wanted>) -> Downloads {
    let mut downloads = Downloads::new(config);
    downloads.linked(Time(0), true);
    assert!(matches!(downloads.poll_effect(), Some(Effect::Load(_))));
    let ids: Vec<TransferId> = files.iter().map(|file| file.transfer).collect();
    downloads.add(Time(0), files, true);
    for id in ids {
        assert_eq!(downloads.poll_effect(), Some(Effect::Open(id)));
        downloads.opened(Time(0), id, Opened::Ready);
    }
    downloads
}

#[test]
fn the_list_comes_first_and_then_the_chunks_within_the_credit() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, 10 * KIB)]);
    let list = asked(effects(&mut downloads));
    assert_eq!(list.iter().map(|(_, unit)| (unit.index, unit.length)).collect::<Vec<_>>(), [(LIST_INDEX_FIRST, 320)]);
    downloads.came(Time(1), list[0].1, Came::Verified);
    assert!(asked(effects(&mut downloads)).is_empty(), "nothing is asked before the list was checked");
    downloads.list_came(Time(1), 1, true);
    let chunks = asked(effects(&mut downloads));
    assert_eq!(chunks.iter().map(|(_, unit)| unit.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    downloads.came(Time(2), chunks[0].1, Came::Verified);
    assert_eq!(asked(effects(&mut downloads)).iter().map(|(_, unit)| unit.index).collect::<Vec<_>>(), [4]);
}

/// Answers everything that is asked until nothing is; gives all effects.
fn run(downloads: &mut Downloads, mut now: u64) -> Vec<Effect> {
    let mut seen = Vec::new();
    loop {
        now += 100;
        downloads.tick(Time(now));
        let new = effects(downloads);
        if new.is_empty() {
            return seen;
        }
        for effect in new {
            now += 1;
            match &effect {
                Effect::Ask { units, .. } => {
                    for unit in units.clone() {
                        downloads.came(Time(now), unit, Came::Verified);
                        if unit.index >= LIST_INDEX_FIRST {
                            downloads.list_came(Time(now), unit.transfer, true);
                        }
                    }
                }
                Effect::Sync(transfer, chunks) => downloads.synced(Time(now), *transfer, chunks, true),
                Effect::Finish(ids) => ids.iter().for_each(|id| downloads.finished(Time(now), *id, Outcome::Done)),
                _ => {}
            }
            seen.push(effect);
        }
    }
}

#[test]
fn every_chunk_is_asked_once_and_claimed_only_after_a_sync() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, 10 * KIB)]);
    let seen = run(&mut downloads, 10);
    let mut indexes: Vec<u32> = Vec::new();
    let mut synced: Vec<u32> = Vec::new();
    for effect in &seen {
        match effect {
            Effect::Ask { units, .. } => indexes.extend(units.iter().map(|unit| unit.index)),
            Effect::Sync(_, chunks) => synced.extend(chunks),
            Effect::Claim { claimed, done, .. } => {
                assert_eq!(Bits::restore(10, claimed).count() as usize, synced.len(), "claimed before it was synced");
                assert_eq!(*done, synced.len() as u64 * KIB);
            }
            _ => {}
        }
    }
    indexes.sort_unstable();
    assert_eq!(indexes, (0..10).chain([LIST_INDEX_FIRST]).collect::<Vec<_>>());
    assert!(seen.contains(&Effect::Settle(1, Outcome::Done, 10 * KIB + 320)));
    assert!(!synced.is_empty());
}

#[test]
fn what_was_claimed_is_not_asked_again() {
    let mut claimed = Bits::empty(10);
    (0..7).for_each(|chunk| {
        claimed.insert(chunk);
    });
    let file = Wanted { claimed: claimed.as_bytes().to_vec(), has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let indexes: Vec<u32> = asked(effects(&mut downloads)).iter().map(|(_, unit)| unit.index).collect();
    assert_eq!(indexes, [7, 8, 9]);
}

#[test]
fn claims_are_void_without_their_part_file() {
    let file = Wanted { claimed: vec![0xff, 0xff], has_list: true, ..wanted(1, OWNER, 3 * KIB) };
    let mut downloads = Downloads::new(small_credit());
    downloads.linked(Time(0), true);
    downloads.add(Time(0), vec![file], true);
    effects(&mut downloads);
    downloads.opened(Time(0), 1, Opened::Anew);
    assert_eq!(effects(&mut downloads), [Effect::Open(1)], "nothing is asked before the claims are forgotten");
    downloads.opened(Time(0), 1, Opened::Ready);
    assert_eq!(asked(effects(&mut downloads)).len(), 3);
}

#[test]
fn a_lost_link_asks_again_for_what_was_outstanding() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = asked(effects(&mut downloads));
    downloads.linked(Time(1), false);
    assert!(asked(effects(&mut downloads)).is_empty());
    downloads.linked(Time(2), true);
    let again = asked(effects(&mut downloads));
    assert_eq!(
        first.iter().map(|(_, unit)| unit).collect::<Vec<_>>(),
        again.iter().map(|(_, unit)| unit).collect::<Vec<_>>()
    );
    assert!(again[0].0 > first[0].0, "the numbers of before mean nothing any more");
}

#[test]
fn a_refusal_that_may_pass_is_retried_and_one_of_an_old_request_is_ignored() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 2 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = asked(effects(&mut downloads));
    let units: Vec<_> = first.iter().map(|(_, unit)| (unit.content, unit.index)).collect();
    downloads.refused(Time(1), first[0].0 + 7, &units, ChunkRefusal::OwnerStalled);
    assert!(effects(&mut downloads).is_empty());
    downloads.refused(Time(1), first[0].0, &units, ChunkRefusal::OwnerNotFresh);
    assert!(asked(effects(&mut downloads)).is_empty());
    let due = downloads.poll_timeout().expect("it is retried");
    downloads.tick(due);
    assert_eq!(asked(effects(&mut downloads)).len(), 2);
}

#[test]
fn a_final_refusal_ends_the_transfer_with_its_reason() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let first = asked(effects(&mut downloads));
    downloads.refused(Time(1), first[0].0, &[(first[0].1.content, 0)], ChunkRefusal::OwnerExpelled);
    let ended = effects(&mut downloads);
    assert!(ended.contains(&Effect::Settle(1, Outcome::Refused(ChunkRefusal::OwnerExpelled), 0)));
}

#[test]
fn an_owner_that_is_away_is_not_asked_until_it_is_back() {
    let mut downloads = Downloads::new(small_credit());
    downloads.linked(Time(0), true);
    downloads.presence(Time(0), OWNER, false);
    downloads.add(Time(0), vec![wanted(1, OWNER, KIB)], true);
    downloads.opened(Time(0), 1, Opened::Ready);
    assert!(asked(effects(&mut downloads)).is_empty());
    let waits = downloads.fetch(1).and_then(|fetch| downloads.waits_for(fetch));
    assert_eq!(waits, Some(Outcome::OwnerAway));
    downloads.presence(Time(1), OWNER, true);
    assert_eq!(asked(effects(&mut downloads)).len(), 1);
}

#[test]
fn one_owner_gets_at_most_half_of_the_credit_while_another_waits() {
    let files = vec![
        Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) },
        Wanted { has_list: true, ..wanted(2, OTHER, 10 * KIB) },
    ];
    let mut downloads = Downloads::new(small_credit());
    downloads.add(Time(0), files, true);
    downloads.opened(Time(0), 1, Opened::Ready);
    downloads.opened(Time(0), 2, Opened::Ready);
    downloads.linked(Time(0), true);
    let units = asked(effects(&mut downloads));
    assert_eq!(units.iter().filter(|(_, unit)| unit.transfer == 1).count(), 2);
    assert_eq!(units.iter().filter(|(_, unit)| unit.transfer == 2).count(), 2);
}

#[test]
fn a_small_file_of_another_job_does_not_wait_for_a_big_one() {
    let big = Wanted { has_list: true, ..wanted(1, OWNER, 1_000 * KIB) };
    let next_of_big = Wanted { has_list: true, ..wanted(2, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![big, next_of_big]);
    let under_way = asked(effects(&mut downloads));
    assert_eq!(under_way.len(), 4, "the big one has all the credit");
    downloads.add(Time(1), vec![Wanted { job: 2, ..wanted(3, OWNER, KIB) }], true);
    downloads.opened(Time(1), 3, Opened::Ready);
    assert!(asked(effects(&mut downloads)).is_empty(), "the credit is used up");
    downloads.came(Time(2), under_way[0].1, Came::Verified);
    let next: Vec<TransferId> = asked(effects(&mut downloads)).iter().map(|(_, unit)| unit.transfer).collect();
    assert_eq!(next, [3]);
    downloads.came(Time(3), under_way[1].1, Came::Verified);
    let next: Vec<TransferId> = asked(effects(&mut downloads)).iter().map(|(_, unit)| unit.transfer).collect();
    assert_eq!(next, [1], "a job's own files come one after the other");
}

#[test]
fn owners_share_the_credit_and_jobs_the_share_of_an_owner() {
    let mut downloads = Downloads::new(DownloadsConfig { credit_min: 8 * KIB, credit_max: 8 * KIB, ..small_credit() });
    let files = [(1, 1, OWNER), (2, 1, OWNER), (3, 2, OWNER), (4, 3, OTHER)];
    let wanted = files.map(|(id, job, owner)| Wanted { job, has_list: true, ..wanted(id, owner, 10 * KIB) });
    downloads.add(Time(0), wanted.to_vec(), true);
    files.iter().for_each(|(id, _, _)| downloads.opened(Time(0), *id, Opened::Ready));
    downloads.linked(Time(0), true);
    let units = asked(effects(&mut downloads));
    let of = |transfer: TransferId| units.iter().filter(|(_, unit)| unit.transfer == transfer).count();
    assert_eq!([of(1), of(2), of(3), of(4)], [2, 0, 2, 4]);
    assert!(units.iter().all(|(request, unit)| (*request == units[0].0) == (unit.transfer != 4)), "a request an owner");
}

#[test]
fn a_full_disk_waits_and_goes_on() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let first = asked(effects(&mut downloads));
    downloads.came(Time(1), first[0].1, Came::NotWritten(Outcome::DiskFull));
    assert!(effects(&mut downloads).is_empty());
    let due = downloads.poll_timeout().expect("it looks again");
    downloads.tick(due);
    assert_eq!(effects(&mut downloads), [Effect::Open(1)]);
    downloads.opened(due, 1, Opened::Ready);
    assert_eq!(asked(effects(&mut downloads)).len(), 1);
}

#[test]
fn what_comes_damaged_again_and_again_fails() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let mut now = Time(0);
    for _ in 0..1_000 {
        for effect in effects(&mut downloads) {
            match effect {
                Effect::Ask { units, .. } => downloads.came(now, units[0], Came::Damaged),
                Effect::Settle(1, outcome, _) => return assert_eq!(outcome, Outcome::Damaged),
                _ => {}
            }
        }
        now = downloads.poll_timeout().map_or(now, |due| due.max(now));
        downloads.tick(now);
    }
    panic!("it never ended");
}

#[test]
fn what_its_owner_cannot_read_waits_until_it_can() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let mut now = Time(0);
    // The owner's disk is away for hours; its person sees why.
    while now < Time(4 * 3_600_000) {
        for effect in effects(&mut downloads) {
            match effect {
                Effect::Ask { request, units, .. } => {
                    downloads.refused(now, request, &[(units[0].content, units[0].index)], ChunkRefusal::Unreadable);
                }
                Effect::Settle(_, outcome, _) => panic!("it ended: {outcome}"),
                _ => {}
            }
        }
        let fetch = downloads.fetch(1).expect("it waits");
        assert_eq!(downloads.waits_for(fetch), Some(Outcome::Refused(ChunkRefusal::Unreadable)));
        now = downloads.poll_timeout().map_or(now, |due| due.max(now));
        downloads.tick(now);
    }
    assert!(effects(&mut downloads).iter().any(|effect| matches!(effect, Effect::Ask { .. })), "it asks again");
}

#[test]
fn small_files_share_one_ending() {
    let files = (1..=100).map(|id| wanted(id, OWNER, KIB)).collect();
    let config = DownloadsConfig { credit_min: 1 << 20, ..DownloadsConfig::default() };
    let mut downloads = begun(config, files);
    let seen = run(&mut downloads, 0);
    let batches: Vec<usize> = seen
        .iter()
        .filter_map(|effect| match effect {
            Effect::Finish(ids) => Some(ids.len()),
            _ => None,
        })
        .collect();
    assert_eq!(batches, [100]);
    let requests = seen.iter().filter(|effect| matches!(effect, Effect::Ask { .. })).count();
    assert!(requests < 110, "{requests} requests for 100 files");
}

#[test]
fn who_stops_claims_what_is_there_first() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = asked(effects(&mut downloads));
    downloads.came(Time(1), first[0].1, Came::Verified);
    effects(&mut downloads);
    downloads.stop();
    assert_eq!(effects(&mut downloads), [Effect::Sync(1, vec![0])]);
    downloads.synced(Time(2), 1, &[0], true);
    let last = effects(&mut downloads);
    assert!(matches!(last.first(), Some(Effect::Claim { transfer: 1, .. })));
    assert_eq!(last.last(), Some(&Effect::Stopped));
    assert!(!last.iter().any(|effect| matches!(effect, Effect::Ask { .. })));
}

#[test]
fn an_empty_file_needs_no_request() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, 0)]);
    let seen = run(&mut downloads, 0);
    assert!(seen.contains(&Effect::Finish(vec![1])));
    assert!(!seen.iter().any(|effect| matches!(effect, Effect::Ask { .. })));
}

#[test]
fn who_pauses_gives_its_credit_back_and_claims_what_is_there_before_it_leaves() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let other = Wanted { has_list: true, ..wanted(2, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file, other]);
    let first = asked(effects(&mut downloads));
    assert!(first.iter().all(|(_, unit)| unit.transfer == 1), "the first one has all the credit");
    downloads.came(Time(1), first[0].1, Came::Verified);
    effects(&mut downloads);
    downloads.pause(Time(2), 1);
    let paused = effects(&mut downloads);
    let cancelled: Vec<u32> = paused
        .iter()
        .flat_map(|effect| match effect {
            Effect::Cancel { units, .. } => units.iter().map(|unit| unit.index).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(cancelled, [1, 2, 3, 4]);
    assert!(paused.contains(&Effect::Sync(1, vec![0])), "{paused:?}");
    let next = asked(paused);
    assert!(next.len() == 4 && next.iter().all(|(_, unit)| unit.transfer == 2), "the other one has the credit now");
    downloads.synced(Time(3), 1, &[0], true);
    let last = effects(&mut downloads);
    assert!(matches!(last.first(), Some(Effect::Claim { transfer: 1, .. })));
    assert!(matches!(last.last(), Some(Effect::Close { transfer: 1, part_needed: true, .. })), "its part file stays");
    assert!(downloads.fetch(1).is_none());
}

#[test]
fn who_pauses_leaves_also_if_it_is_loaded_again_meanwhile() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 3 * KIB) };
    let mut downloads = begun(small_credit(), vec![file.clone()]);
    let first = asked(effects(&mut downloads));
    downloads.came(Time(1), first[0].1, Came::Verified);
    downloads.pause(Time(2), 1);
    effects(&mut downloads);
    downloads.add(Time(3), vec![file.clone()], true);
    assert!(asked(effects(&mut downloads)).is_empty(), "its part file is to be opened anew");
    downloads.synced(Time(4), 1, &[0], true);
    let left = effects(&mut downloads);
    assert!(matches!(left.last(), Some(Effect::Close { transfer: 1, part_needed: true, .. })), "{left:?}");
    downloads.add(Time(5), vec![file], true);
    assert_eq!(effects(&mut downloads), [Effect::Open(1)]);
}

#[test]
fn who_pauses_what_is_whole_lets_it_end() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let first = asked(effects(&mut downloads));
    downloads.came(Time(1), first[0].1, Came::Verified);
    downloads.pause(Time(2), 1);
    assert!(downloads.is_ending(1));
    downloads.tick(Time(1_000));
    assert_eq!(effects(&mut downloads), [Effect::Finish(vec![1])]);
    downloads.finished(Time(1_001), 1, Outcome::Done);
    assert!(effects(&mut downloads).contains(&Effect::Settle(1, Outcome::Done, KIB)));
}

#[test]
fn a_reason_stays_until_something_comes_also_while_it_is_asked_again() {
    let mut downloads = begun(small_credit(), vec![wanted(1, OWNER, KIB)]);
    let first = asked(effects(&mut downloads));
    downloads.refused(Time(1), first[0].0, &[(first[0].1.content, 0)], ChunkRefusal::Paused);
    let due = downloads.poll_timeout().expect("it asks again");
    downloads.tick(due);
    let again = asked(effects(&mut downloads));
    assert_eq!(again.len(), 1);
    let why = |downloads: &Downloads| downloads.fetch(1).and_then(|fetch| downloads.waits_for(fetch));
    assert_eq!(why(&downloads), Some(Outcome::Refused(ChunkRefusal::Paused)));
    downloads.came(due, again[0].1, Came::Verified);
    assert_eq!(why(&downloads), None);
}

#[test]
fn two_transfers_of_one_content_ask_for_it_once_and_part_without_harm() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 2 * KIB) };
    let twin = Wanted { transfer: 2, ..file.clone() };
    let mut downloads = begun(small_credit(), vec![file, twin]);
    let seen = effects(&mut downloads);
    let joined: Vec<(u64, Asked)> = seen
        .iter()
        .flat_map(|effect| match effect {
            Effect::Join { request, units } => units.iter().map(|unit| (*request, *unit)).collect(),
            _ => Vec::new(),
        })
        .collect();
    let first = asked(seen);
    assert_eq!(first.len(), 2, "each unit is asked for once");
    assert_eq!(joined.iter().map(|(_, unit)| (unit.transfer, unit.index)).collect::<Vec<_>>(), [(2, 0), (2, 1)]);
    assert!(joined.iter().all(|(request, _)| *request == first[0].0));
    // One goes: the server must not hear of it, for the other one still wants them.
    downloads.pause(Time(1), 1);
    let left = effects(&mut downloads);
    assert!(matches!(&left[0], Effect::Leave { units, .. } if units.len() == 2), "{left:?}");
    assert!(!left.iter().any(|effect| matches!(effect, Effect::Cancel { .. })));
    for (_, unit) in joined {
        downloads.came(Time(2), unit, Came::Verified);
    }
    assert!(effects(&mut downloads).contains(&Effect::Finish(vec![2])));
}

/// Transfers, each with the request by which one of its units is asked for.
type Requests = Vec<(u64, TransferId)>;

/// Those that ask, and those that join a request.
fn asked_and_joined(effects: Vec<Effect>) -> (Requests, Requests) {
    let (mut asks, mut joins) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Ask { request, units, .. } => asks.extend(units.iter().map(|unit| (request, unit.transfer))),
            Effect::Join { request, units } => joins.extend(units.iter().map(|unit| (request, unit.transfer))),
            _ => {}
        }
    }
    (asks, joins)
}

#[test]
fn twins_do_not_join_a_request_that_is_over() {
    let twins: Vec<Wanted> = (1..=3).map(|transfer| Wanted { transfer, ..wanted(1, OWNER, KIB) }).collect();
    let mut downloads = begun(small_credit(), twins);
    let (asks, joins) = asked_and_joined(effects(&mut downloads));
    assert_eq!((asks.len(), joins.len()), (1, 2));
    let unit = |transfer| Asked { transfer, content: ContentId([1; 16]), index: 0, length: KIB as u32 };
    // The first has it; the others were too late for that.
    downloads.came(Time(1), unit(1), Came::Verified);
    downloads.came(Time(1), unit(2), Came::Broken);
    let (again, joined) = asked_and_joined(effects(&mut downloads));
    assert!(again.len() == 1 && again[0].1 == 2 && again[0].0 > asks[0].0, "{again:?}");
    assert!(joined.is_empty(), "{joined:?}");
    downloads.came(Time(1), unit(3), Came::Broken);
    assert_eq!(asked_and_joined(effects(&mut downloads)), (vec![], vec![(again[0].0, 3)]));
    // Who asked leaves: the other one is now who asked, and a newcomer joins it.
    downloads.pause(Time(2), 2);
    effects(&mut downloads);
    downloads.add(Time(3), vec![Wanted { transfer: 4, ..wanted(1, OWNER, KIB) }], true);
    downloads.opened(Time(3), 4, Opened::Ready);
    let (asks, joins) = asked_and_joined(effects(&mut downloads));
    assert_eq!((asks, joins), (vec![], vec![(again[0].0, 4)]));
}

#[test]
fn an_owner_that_says_nothing_is_told_of() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = asked(effects(&mut downloads));
    let silent =
        |downloads: &Downloads, now| downloads.fetch(1).and_then(|fetch| downloads.silent_for(Time(now), fetch));
    assert_eq!(silent(&downloads, 2_999), None);
    assert_eq!(silent(&downloads, 3_000), Some(Duration::from_secs(3)));
    downloads.heard(Time(3_500), 1, 17, true);
    assert_eq!(silent(&downloads, 6_000), None, "slow is not silent");
    downloads.came(Time(6_100), first[0].1, Came::Verified);
    assert_eq!(silent(&downloads, 9_200), Some(Duration::from_millis(3_100)));
}

#[test]
fn news_of_an_earlier_opening_claim_nothing() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = asked(effects(&mut downloads));
    downloads.came(Time(1), first[0].1, Came::Verified);
    downloads.came(Time(1), first[1].1, Came::NotWritten(Outcome::CannotWrite));
    effects(&mut downloads);
    downloads.came(Time(2), first[2].1, Came::Verified);
    downloads.synced(Time(2), 1, &[0], true);
    downloads.finished(Time(2), 1, Outcome::Done);
    assert!(effects(&mut downloads).is_empty(), "the place is to be looked at anew");
    downloads.tick(Time(10_000));
    assert_eq!(effects(&mut downloads), [Effect::Open(1)]);
    downloads.opened(Time(10_000), 1, Opened::Ready);
    let again: Vec<u32> = asked(effects(&mut downloads)).iter().map(|(_, unit)| unit.index).collect();
    assert_eq!(again, [0, 1, 2, 3], "nothing was claimed");
}

/// By which way each unit is asked for.
fn ways(effects: &[Effect]) -> Vec<(u32, Option<ConnId>)> {
    let asks = effects.iter().filter_map(|effect| match effect {
        Effect::Ask { units, by, .. } => Some(units.iter().map(|unit| (unit.index, *by))),
        _ => None,
    });
    asks.flatten().collect()
}

#[test]
fn who_has_a_straight_way_is_asked_on_it_and_through_the_server_when_it_is_gone() {
    let way = ConnId(7);
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    let first = effects(&mut downloads);
    assert_eq!(ways(&first), [0, 1, 2, 3].map(|index| (index, None)), "it begins at once, through the server");
    let first = asked(first);
    downloads.straight(Time(10), OWNER, Some(way));
    for (_, unit) in &first[..3] {
        downloads.came(Time(11), *unit, Came::Verified);
    }
    let more = effects(&mut downloads);
    assert_eq!(ways(&more), [4, 5, 6].map(|index| (index, Some(way))), "what is new goes straight");
    let straight = asked(more);
    assert_eq!(downloads.way_of(straight[0].0), Some(way));

    // The server is lost: what was asked for by it is asked for on the straight way, the rest stays as it is.
    downloads.linked(Time(20), false);
    let again = effects(&mut downloads);
    assert_eq!(ways(&again), [(3, Some(way))]);
    assert_eq!(downloads.awaited_since(), None, "nothing is awaited of the server");
    let fetch = downloads.fetch(1).unwrap();
    assert_eq!(downloads.waits_for(fetch), None, "it goes on without it");

    downloads.linked(Time(30), true);
    assert!(ways(&effects(&mut downloads)).is_empty());
    downloads.straight_lost(Time(40), way);
    let relayed = effects(&mut downloads);
    assert_eq!(ways(&relayed), [3, 4, 5, 6].map(|index| (index, None)), "all of it is asked for again at once");
    assert_eq!(downloads.awaited_since(), Some(Time(40)));
    assert_eq!(downloads.way_of(straight[0].0), None);
}

#[test]
fn what_was_asked_for_on_an_older_straight_way_may_still_come_by_it() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 10 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    downloads.linked(Time(1), false);
    downloads.straight(Time(1), OWNER, Some(ConnId(7)));
    let first = asked(effects(&mut downloads));
    downloads.straight(Time(2), OWNER, Some(ConnId(8)));
    assert!(effects(&mut downloads).is_empty());
    downloads.came(Time(3), first.last().unwrap().1, Came::Verified);
    assert_eq!(ways(&effects(&mut downloads)), [(4, Some(ConnId(8)))]);
    downloads.straight_lost(Time(4), ConnId(7));
    let again = ways(&effects(&mut downloads));
    assert!(again.iter().all(|(_, by)| *by == Some(ConnId(8))), "{again:?}");
}

#[test]
fn who_pauses_tells_the_owner_by_the_way_it_was_asked() {
    let file = Wanted { has_list: true, ..wanted(1, OWNER, 3 * KIB) };
    let mut downloads = begun(small_credit(), vec![file]);
    effects(&mut downloads);
    downloads.linked(Time(1), false);
    downloads.straight(Time(1), OWNER, Some(ConnId(7)));
    effects(&mut downloads);
    downloads.pause(Time(2), 1);
    let cancelled = effects(&mut downloads);
    assert!(
        cancelled.iter().any(|effect| matches!(effect, Effect::Cancel { by: Some(ConnId(7)), .. })),
        "{cancelled:?}"
    );
}

#[test]
fn a_job_that_is_to_come_straight_alone_waits_for_a_straight_way() {
    let mut downloads = Downloads::new(DownloadsConfig::default());
    downloads.linked(Time(0), true);
    let wanted = Wanted { has_list: true, way: Way::Direct, ..wanted(1, OWNER, 4 * KIB) };
    downloads.add(Time(0), vec![wanted], true);
    downloads.opened(Time(0), 1, Opened::Ready);
    assert!(ways(&effects(&mut downloads)).is_empty(), "nothing goes through the server");
    let waits = |downloads: &Downloads| downloads.waits_for(downloads.fetch(1).unwrap());
    assert_eq!(waits(&downloads), Some(Outcome::NotStraight));
    assert_eq!(downloads.owners().len(), 1, "a way is looked for");
    downloads.straight(Time(1), OWNER, Some(ConnId(7)));
    assert_eq!(waits(&downloads), None);
    assert!(ways(&effects(&mut downloads)).iter().all(|(_, by)| *by == Some(ConnId(7))));
    downloads.straight_lost(Time(2), ConnId(7));
    assert!(ways(&effects(&mut downloads)).is_empty(), "nor what was asked for already");
    downloads.set_way(Time(3), 1, Way::Any);
    assert_eq!(ways(&effects(&mut downloads)).len(), 4, "its person thought better of it");
}

#[test]
fn a_job_that_is_to_come_through_the_server_alone_takes_no_straight_way() {
    let mut downloads = Downloads::new(DownloadsConfig::default());
    downloads.straight(Time(0), OWNER, Some(ConnId(7)));
    let relayed = |transfer| Wanted { has_list: true, way: Way::Relay, ..wanted(transfer, OWNER, 4 * KIB) };
    downloads.add(Time(0), vec![relayed(1)], true);
    downloads.opened(Time(0), 1, Opened::Ready);
    assert_eq!(downloads.waits_for(downloads.fetch(1).unwrap()), Some(Outcome::ServerAway));
    assert!(downloads.owners().is_empty(), "no way is looked for");
    // Another job's straight request for the same units is not its own.
    let straight = Wanted { job: 2, way: Way::Any, transfer: 2, ..relayed(1) };
    downloads.add(Time(1), vec![straight], true);
    downloads.opened(Time(1), 2, Opened::Ready);
    let first = effects(&mut downloads);
    assert!(ways(&first).iter().all(|(_, by)| *by == Some(ConnId(7))));
    downloads.linked(Time(2), true);
    assert!(ways(&effects(&mut downloads)).is_empty(), "nobody asks for a unit by two ways at once");
    let (_, unit) = asked(first)[0];
    downloads.came(Time(3), unit, Came::Verified);
    assert_eq!(ways(&effects(&mut downloads)), [(unit.index, None)], "it comes when the other one has it");
}
