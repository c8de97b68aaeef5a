//! What the server never learns: neither its database nor its log at TRACE holds a name or content in clear.

use crate::node::{Place, holds};

#[test]
fn nothing_readable_lies_at_the_server() {
    let place = Place::new();
    let (server, master) = place.begun();
    let laptop = place.member(&master, "laptop-marker-81723");
    let folder = place.folder("folder-marker-81723");
    let content = b"content-marker-81723".repeat(64);
    std::fs::write(folder.join("file-marker-81723.txt"), &content).expect("a file");
    laptop.run(&["add", folder.to_str().expect("a path of text")]);
    let dest = place.folder("got");
    master.until(&["files"], |rows| rows.as_array().is_some_and(|rows| !rows.is_empty()));
    master.run(&["get", "laptop-marker-81723:folder-marker-81723", "-o", dest.to_str().expect("a path of text")]);
    laptop.stop();
    master.stop();
    server.stop();
    let log = std::fs::read(place.path("server.log")).expect("the log");
    assert!(log.windows(5).any(|word| word == b"TRACE"), "the server logs at TRACE");
    let in_log = |marker: &[u8]| log.windows(marker.len()).any(|window| window == marker);
    for marker in ["laptop-marker-81723", "folder-marker-81723", "file-marker-81723", "content-marker-81723"] {
        assert!(!in_log(marker.as_bytes()), "the log holds {marker}");
        assert!(!holds(&place.path("server"), marker.as_bytes()), "the database holds {marker}");
    }
    for marker in ["laptop-marker-81723", "folder-marker-81723", "file-marker-81723"] {
        assert!(holds(&place.path("laptop-marker-81723"), marker.as_bytes()), "the client does not hold {marker}");
    }
    assert!(holds(&dest, b"content-marker-81723"));
}
