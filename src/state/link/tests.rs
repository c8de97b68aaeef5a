use super::*;

struct Middle;
impl Random for Middle {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(128);
    }
}

fn up() -> Link {
    let mut link = Link::new(LinkConfig::default(), Time(0));
    link.tick(Time(0));
    assert_eq!(link.poll_effect(), Some(Effect::Dial(1)));
    link.dialed(ConnId(1));
    assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(1))));
    link.admitted();
    link
}

#[test]
fn a_lost_link_is_dialled_again_soon_and_then_less_often() {
    let mut link = up();
    link.lost(Time(0), &mut Middle, ConnId(1), false);
    assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
    assert_eq!(link.poll_timeout(), Some(Time(200)));
    let (mut now, mut pauses) = (Time(200), Vec::new());
    for attempt in 2..8 {
        link.tick(now);
        assert_eq!(link.poll_effect(), Some(Effect::Dial(attempt)));
        link.dial_failed(now, &mut Middle, attempt);
        let next = link.poll_timeout().unwrap();
        pauses.push(next.0 - now.0);
        now = next;
    }
    assert_eq!(pauses, [400, 800, 1600, 2000, 2000, 2000]);
}

#[test]
fn a_silent_link_is_pinged_and_then_dialled_beside() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    link.tick(Time(1_000));
    assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
    link.tick(Time(3_000));
    assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
    assert_eq!(link.poll_effect(), Some(Effect::Ping(ConnId(1), 3_000)), "it may be back");
    link.dialed(ConnId(2));
    assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
    assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(1))));
    assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(2))));
}

#[test]
fn a_server_that_is_gone_is_given_up_and_dialled_on() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    let (mut now, mut dials, mut down_at) = (Time(0), 0, None);
    while now < Time(20_000) {
        now = link.poll_timeout().unwrap();
        // A request is repeated every three seconds.
        link.awaiting(Some(Time(now.0 / 3_000 * 3_000)));
        link.tick(now);
        while let Some(effect) = link.poll_effect() {
            match effect {
                Effect::Dial(_) => dials += 1,
                Effect::Down(ConnId(1)) => down_at = Some(now),
                _ => {}
            }
        }
    }
    assert_eq!(down_at, Some(Time(8_000)));
    assert!(dials >= 8, "a dial without an answer gets another one beside it: {dials}");
    link.dialed(ConnId(2));
    assert_eq!(link.poll_effect(), Some(Effect::Up(ConnId(2))));
}

#[test]
fn a_link_that_is_given_up_is_dialled_again_though_the_dial_beside_it_failed() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    for ms in 1..30_000 {
        link.awaiting(Some(Time(0)));
        link.tick(Time(ms));
        while let Some(effect) = link.poll_effect() {
            if let Effect::Dial(attempt) = effect {
                link.dial_failed(Time(ms), &mut Middle, attempt);
            }
        }
    }
    assert_eq!(link.current(), None);
    assert!(link.poll_timeout().is_some(), "it goes on dialling");
}

#[test]
fn dials_beside_a_silent_link_that_fail_at_once_have_pauses() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    let mut dials = 0;
    for ms in 1..7_999 {
        link.tick(Time(ms));
        while let Some(effect) = link.poll_effect() {
            if let Effect::Dial(attempt) = effect {
                dials += 1;
                link.dial_failed(Time(ms), &mut Middle, attempt);
            }
        }
        assert!(link.poll_timeout() > Some(Time(ms)));
    }
    assert!((3..=10).contains(&dials), "{dials}");
    assert_eq!(link.current(), Some(ConnId(1)));
    link.heard(Time(7_999));
    assert_eq!(link.poll_timeout(), None, "it speaks again, and nothing is dialled any more");
}

#[test]
fn who_sleeps_right_after_a_ping_dials_when_it_wakes() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    link.tick(Time(1_000));
    assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
    link.tick(Time(3_600_000));
    assert_eq!(link.poll_effect(), Some(Effect::Down(ConnId(1))));
    assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(1))));
    assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
}

#[test]
fn a_link_that_speaks_again_keeps_its_connection() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    link.tick(Time(1_000));
    link.tick(Time(3_000));
    while link.poll_effect().is_some() {}
    link.heard(Time(3_100));
    link.dialed(ConnId(2));
    assert_eq!(link.poll_effect(), Some(Effect::Close(ConnId(2))));
}

#[test]
fn who_waits_and_hears_pings_once_a_second_and_no_more() {
    let mut link = up();
    let mut pings = 0;
    for ms in 0..10_000 {
        let now = Time(ms);
        link.awaiting(Some(Time(0)));
        link.tick(now);
        while let Some(effect) = link.poll_effect() {
            assert!(matches!(effect, Effect::Ping(..)), "{effect:?}");
            pings += 1;
            link.heard(now);
        }
    }
    assert_eq!(pings, 9);
}

#[test]
fn a_quiet_link_is_pinged_when_a_person_looks() {
    let mut link = up();
    link.heard(Time(0));
    link.look(Time(500));
    assert_eq!(link.poll_effect(), None);
    link.look(Time(5_000));
    assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
    link.look(Time(5_100));
    assert_eq!(link.poll_effect(), None);
    link.heard(Time(5_200));
    link.awaiting(None);
    link.tick(Time(60_000));
    assert_eq!((drained(&mut link), link.current()), (Vec::new(), Some(ConnId(1))), "it has answered");
    // Nobody answers any more, and nothing else is awaited.
    link.look(Time(70_000));
    for at in (70_500..80_000).step_by(500) {
        link.awaiting(None);
        link.tick(Time(at));
    }
    assert!(drained(&mut link).contains(&Effect::Down(ConnId(1))), "the next look tells that it is away");
}

#[test]
fn a_connection_in_doubt_is_pinged_at_once_and_another_dialled_two_seconds_later() {
    let mut link = up();
    link.heard(Time(0));
    link.doubt(Time(100_000));
    assert!(matches!(link.poll_effect(), Some(Effect::Ping(ConnId(1), _))));
    link.awaiting(None);
    for again in [100_500, 101_000, 101_500] {
        assert_eq!(link.poll_timeout(), Some(Time(again)));
        link.tick(Time(again));
        assert_eq!(
            drained(&mut link),
            [Effect::Ping(ConnId(1), again)],
            "a packet that is lost is not all that is sent"
        );
        link.doubt(Time(again));
    }
    link.tick(Time(101_999));
    assert_eq!(drained(&mut link), [], "changes that follow one another put nothing off");
    link.tick(Time(102_000));
    assert_eq!(drained(&mut link), [Effect::Dial(2), Effect::Ping(ConnId(1), 102_000)]);
    link.dialed(ConnId(2));
    assert_eq!(drained(&mut link), [Effect::Down(ConnId(1)), Effect::Close(ConnId(1)), Effect::Up(ConnId(2))]);
}

fn drained(link: &mut Link) -> Vec<Effect> {
    std::iter::from_fn(|| link.poll_effect()).collect()
}

#[test]
fn who_has_moved_gets_another_connection_though_the_first_one_lives() {
    let mut link = up();
    link.moved(Time(100_000));
    assert_eq!(drained(&mut link), [Effect::Ping(ConnId(1), 100_000), Effect::Dial(2)]);
    link.heard(Time(100_040));
    link.dialed(ConnId(2));
    assert_eq!(drained(&mut link), [Effect::Down(ConnId(1)), Effect::Close(ConnId(1)), Effect::Up(ConnId(2))]);
    link.heard(Time(100_050));
    link.dialed(ConnId(3));
    assert_eq!(drained(&mut link), [Effect::Close(ConnId(3))], "one is enough");
}

#[test]
fn who_has_moved_and_reaches_nobody_keeps_a_connection_that_lives_and_gives_up_one_that_does_not() {
    for lives in [true, false] {
        let mut link = up();
        link.moved(Time(100_000));
        if lives {
            link.heard(Time(100_040));
        }
        link.dial_failed(Time(100_100), &mut Middle, 2);
        drained(&mut link);
        for ms in (100_100..108_000).step_by(10) {
            link.awaiting(None);
            link.tick(Time(ms));
        }
        let then = drained(&mut link);
        assert_eq!(then.is_empty(), lives, "{then:?}");
        assert_eq!(link.current().is_some(), lives);
    }
}

#[test]
fn a_connection_in_doubt_that_answers_stays() {
    let mut link = up();
    link.doubt(Time(100_000));
    link.poll_effect();
    link.heard(Time(100_040));
    link.awaiting(None);
    link.tick(Time(110_000));
    assert_eq!((link.poll_effect(), link.poll_timeout()), (None, None));
}

#[test]
fn who_is_between_two_dials_dials_at_once_when_the_network_may_have_changed() {
    let mut link = Link::new(LinkConfig::default(), Time(0));
    link.tick(Time(0));
    link.dial_failed(Time(900_000), &mut Middle, 1);
    assert!(link.poll_timeout() > Some(Time(900_100)));
    assert_eq!(link.poll_effect(), Some(Effect::Dial(1)));
    link.doubt(Time(900_100));
    assert_eq!(link.poll_effect(), Some(Effect::Dial(2)));
    link.doubt(Time(900_200));
    assert_eq!(link.poll_effect(), None, "it dials already");
}

#[test]
fn a_link_that_ended_is_never_due_whatever_is_awaited_on_its_last_connection() {
    let mut link = up();
    link.awaiting(Some(Time(0)));
    link.end(Ended::Expelled);
    link.awaiting(Some(Time(0)));
    link.tick(Time(60_000));
    assert_eq!((link.poll_effect(), link.poll_timeout()), (None, None));
}

#[test]
fn who_is_replaced_without_having_dialled_stops() {
    let mut link = up();
    link.lost(Time(0), &mut Middle, ConnId(1), true);
    assert_eq!(link.ended(), Some(Ended::Replaced));
    assert_eq!(link.poll_timeout(), None);
}
