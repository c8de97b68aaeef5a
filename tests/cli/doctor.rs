//! What `doctor` tells, by a node that answers by a script.

use crate::fake::{Fake, no};
use crate::{bailiwick, run};
use bailiwick::node::local::*;

fn found(devices: Vec<Reached>) -> Result<Reply, LocalError> {
    Ok(Reply::Doctor(Box::new(Diagnosis {
        server: Link::Connected,
        observed: None,
        addresses: Vec::new(),
        port_mapping: "none".into(),
        mapping: "not known yet".into(),
        filtering: None,
        devices,
    })))
}

fn laptop(path: Option<PathRow>, reason: Option<&str>, last: AttemptRow) -> Reached {
    Reached {
        id: "0123456789".into(),
        name: "laptop".into(),
        path,
        reason: reason.map(str::to_owned),
        trying: false,
        nearby: false,
        address: (path == Some(PathRow::Direct)).then(|| "192.0.2.7:7000".into()),
        rtt_ms: None,
        attempts: 2,
        connected: 0,
        last: Some(last),
        conn: None,
    }
}

fn attempt(outcome: &str) -> AttemptRow {
    let address =
        CheckedRow { address: "192.0.2.7:7000".into(), offered: true, probes: 2, answered_ms: None, refused: false };
    AttemptRow { ago_ms: 3_000, took_ms: 5_000, outcome: outcome.into(), addresses: vec![address] }
}

#[test]
fn a_device_that_nobody_tries_to_reach_is_not_waited_for() {
    let fake = Fake::new(|_, asked| match asked {
        0 => found(vec![laptop(None, Some("not connected"), attempt("nothing came"))]),
        _ => no(ErrorCode::Failed, "asked again"),
    });
    let printed = run(bailiwick(fake.path()).args(["doctor", "laptop"]));
    assert!(printed.code == 0 && printed.out.contains("laptop: away\n  not connected\n"), "{}", printed.out);
}

#[test]
fn a_device_that_goes_while_it_is_tried_is_waited_for_no_longer() {
    let fake = Fake::new(|_, asked| {
        let path = (asked < 2).then_some(PathRow::Relay);
        found(vec![Reached { trying: true, ..laptop(path, None, attempt("nothing came")) }])
    });
    let printed = run(bailiwick(fake.path()).args(["doctor", "laptop"]));
    assert_eq!((printed.code, fake.asked.lock().unwrap().len()), (0, 3));
    assert!(printed.out.contains("laptop: away\n"), "{}", printed.out);
}

#[test]
fn a_device_that_is_tried_is_waited_for() {
    let fake = Fake::new(|_, asked| {
        let reached = laptop(Some(PathRow::Relay), Some("relayed by the server: no packet"), attempt("no packet"));
        found(vec![Reached { trying: asked < 2, ..reached }])
    });
    let printed = run(bailiwick(fake.path()).args(["doctor", "laptop"]));
    assert_eq!((printed.code, fake.asked.lock().unwrap().len()), (0, 3));
    assert_eq!(printed.out.matches("no packet").count(), 1, "a reason is told once: {}", printed.out);
}

#[test]
fn who_is_reached_directly_is_told_no_reason_why_not() {
    let fake = Fake::new(|_, _| found(vec![laptop(Some(PathRow::Direct), None, attempt("no packet passes"))]));
    let printed = run(bailiwick(fake.path()).args(["doctor", "laptop"]));
    assert!(printed.out.contains("laptop: direct to 192.0.2.7:7000\n"), "{}", printed.out);
    assert!(printed.out.contains("2 attempts from here came to nothing before"), "{}", printed.out);
    assert!(!printed.out.contains("no packet passes") && !printed.out.contains("PROBES"), "{}", printed.out);
}

#[test]
fn the_address_in_use_is_shown_as_that() {
    let fake = Fake::new(|_, _| {
        let reached = laptop(Some(PathRow::Direct), None, attempt(CONNECTED));
        found(vec![Reached { connected: 1, ..reached }])
    });
    let printed = run(bailiwick(fake.path()).args(["doctor", "laptop"]));
    assert!(printed.out.contains("in use, before any answer"), "{}", printed.out);
}
