//! What the processes of one machine say to each other: the commands and rows of the local API, and `api.json`. What is
//! read is written again as what is read to the same.

use bailiwick::api::place::ApiPlace;
use bailiwick::node::local::{Command, Event, LocalError, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let again = serde_json::to_vec(&value).expect("a row is JSON");
    let back: T = serde_json::from_slice(&again).expect("what was written is read");
    assert_eq!(serde_json::to_vec(&back).expect("a row is JSON"), again);
    Some(value)
}

/// One command of each kind of answer.
fn commands() -> Vec<Command> {
    let text = [
        r#"{"command":"status"}"#,
        r#"{"command":"ticket"}"#,
        r#"{"command":"clients"}"#,
        r#"{"command":"policy"}"#,
        r#"{"command":"files","query":null}"#,
        r#"{"command":"removals"}"#,
        r#"{"command":"shares"}"#,
        r#"{"command":"transfers"}"#,
        r#"{"command":"jobs"}"#,
        r#"{"command":"pause","ids":[]}"#,
        r#"{"command":"invites"}"#,
        r#"{"command":"stop"}"#,
    ];
    text.iter().map(|text| serde_json::from_str(text).expect("a command")).collect()
}

/// The first byte says what reads the rest.
pub fn run(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 16 {
        0 => drop(round_trip::<Command>(rest)),
        1 => drop(round_trip::<Event>(rest)),
        2 => drop(round_trip::<LocalError>(rest)),
        3 => drop(round_trip::<ApiPlace>(rest)),
        which => {
            let commands = commands();
            let command = &commands[usize::from(which - 4)];
            let Ok(reply) = Reply::from_json(command, rest) else { return };
            let again = serde_json::to_vec(&reply).expect("rows are JSON");
            assert_eq!(Reply::from_json(command, &again).expect("what was written is read"), reply);
        }
    }
}

/// Commands and rows as they are.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        (0, r#"{"command":"add","paths":["/a","/b"],"copy":true,"exclude":["*.tmp"]}"#),
        (0, r#"{"command":"get","files":["laptop:a/b"],"dest":"/home","conflict":"rename"}"#),
        (0, r#"{"command":"files","query":"x","offset":1,"limit":2}"#),
        (0, r#"{"command":"rename","id":null,"name":"x"}"#),
        (0, r#"{"command":"cancel","ids":["1","up-2"],"all":false}"#),
        (0, r#"{"command":"set_policy","master_away_wait_s":180}"#),
        (1, r#"{"event":"online","time":"2026-01-01T00:00:00Z","id":"x"}"#),
        (2, r#"{"error":"x","code":"not_now","hint":"y"}"#),
        (3, r#"{"url":"http://127.0.0.1:1","token":"00","pid":7}"#),
        (4, r#"{"role":"client","state":"up"}"#),
        (5, r#"{"ticket":"bwt1"}"#),
        (6, "[{}]"),
        (15, "null"),
    ];
    let mut seeds: Vec<Vec<u8>> = texts.map(|(which, text)| [&[which], text.as_bytes()].concat()).into();
    seeds.extend(commands().iter().map(|it| [vec![0], serde_json::to_vec(it).unwrap_or_default()].concat()));
    seeds
}
