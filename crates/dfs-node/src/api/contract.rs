//! The JSON of every answer, byte for byte: other programs rely on it.

use std::time::Duration;

use dfs_core::name::FilePath;
use dfs_server::{
    Conflict, ConflictPage, Departure, DirUsage, Fate, HistoryPage, Listed, ListedKind, Logged,
    NameHistory, PeerRole, PeerState, PeerView, ProofState, ProofView, Purged, RecoveryOutcome,
    RepairState, RepairView, Said, ScrubState, ScrubView, Stat, Stored, Unreadable, UnreadablePage,
    UsagePage, VersionState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::views::{ListPage, MemberView, OfPath};

/// 2026-11-25T16:47:09Z, and a part of a second that is not shown.
const MODIFIED_MS: u64 = 1_795_625_229_773;

/// What the API writes, and the client writes again after reading it.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(value: &T, expected: &str) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(json, expected);
    let read: T = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), expected);
}

fn path() -> FilePath {
    FilePath::parse("docs/plan.txt").unwrap()
}

const REPLACED: &str = r#","replaced":"2026-11-25T16:49:09Z""#;

fn logged(state: VersionState, kind: Option<ListedKind>) -> Logged {
    Logged {
        version: "e132".to_owned(),
        state,
        kind,
        bytes: 7,
        modified_ms: MODIFIED_MS,
        written_ms: MODIFIED_MS + 60_000,
        digest: kind.map(|_| "97c1".to_owned()),
        replaced_ms: (state == VersionState::Old).then_some(MODIFIED_MS + 120_000),
        writer: "f5f0".to_owned(),
    }
}

#[test]
fn a_stored_file() {
    for (quorum, mode) in [(true, "quorum"), (false, "available")] {
        let (version, guarded) = ("26de".to_owned(), quorum);
        let stored = Stored { version, bytes: 10, copies: 2, wanted: 3, quorum, guarded };
        let expected = concat!(
            r#"{"path":"docs/plan.txt","version":"26de","bytes":10,"copies":2,"wanted":3"#,
            r#","mode":"MODE","guarded":GUARDED}"#,
        )
        .replace("MODE", mode)
        .replace("GUARDED", &guarded.to_string());
        check(&OfPath::new(&path(), stored), &expected);
    }
}

#[test]
fn a_listing() {
    let file = Listed {
        path: "docs/plan.txt".to_owned(),
        kind: ListedKind::File,
        bytes: 3_000_000,
        modified_ms: MODIFIED_MS,
        said: Said::default(),
        version: "dac6".to_owned(),
    };
    let said = Said {
        permissions: Some("0755".parse().unwrap()),
        mtime: Some("978307200.5".parse().unwrap()),
        target: Some("../there".to_owned()),
    };
    let (path, kind) = ("docs/to".to_owned(), ListedKind::Link);
    let link = Listed { path, kind, said, bytes: 8, ..file.clone() };
    let dir = Listed { path: "old".to_owned(), kind: ListedKind::Dir, ..file.clone() };
    let lines = [
        concat!(
            r#"{"path":"docs/plan.txt","type":"file","bytes":3000000"#,
            r#","modified":"2026-11-25T16:47:09Z","version":"dac6"}"#,
        ),
        concat!(
            r#"{"path":"docs/to","type":"link","bytes":8,"modified":"2026-11-25T16:47:09Z""#,
            r#","permissions":"0755","mtime":"978307200.5","target":"../there","version":"dac6"}"#,
        ),
        concat!(
            r#"{"path":"old","type":"dir","bytes":3000000,"modified":"2026-11-25T16:47:09Z""#,
            r#","version":"dac6"}"#,
        ),
    ];
    let entries = vec![file, link, dir];
    let page = ListPage { entries, next: Some("old/".to_owned()), guarded: true };
    let expected = format!(r#"{{"entries":[{}],"next":"old/","guarded":true}}"#, lines.join(","));
    check(&page, &expected);
    let page = ListPage { entries: Vec::new(), next: None, guarded: false };
    check(&page, r#"{"entries":[],"guarded":false}"#);
}

#[test]
fn everything_about_a_file() {
    let stat = Stat {
        kind: ListedKind::File,
        said: Said::default(),
        version: "8707".to_owned(),
        bytes: 3_000_000,
        modified_ms: MODIFIED_MS,
        chunks: 3,
        copies: 2,
        wanted: 3,
        conflicts: 1,
        guarded: true,
    };
    check(
        &OfPath::new(&path(), stat),
        concat!(
            r#"{"path":"docs/plan.txt","type":"file","version":"8707","bytes":3000000"#,
            r#","modified":"2026-11-25T16:47:09Z","chunks":3,"copies":2,"wanted":3"#,
            r#","conflicts":1,"guarded":true}"#,
        ),
    );
}

#[test]
fn peers() {
    for (state, word) in [
        (PeerState::Joining, "joining"),
        (PeerState::Alive, "alive"),
        (PeerState::Suspect, "suspect"),
        (PeerState::Down, "down"),
        (PeerState::Draining, "draining"),
        (PeerState::Out, "out"),
        (PeerState::Left, "left"),
    ] {
        let peer = PeerView {
            id: "dn18".to_owned(),
            addr: "127.0.0.1:26000".to_owned(),
            zone: "default".to_owned(),
            state,
            role: Some(PeerRole::Storage),
            is_self: true,
            bytes: 3,
            capacity: 5_000_000_000,
            cap: Some(7),
            distrusted: None,
            drain: Some("waits".to_owned()),
            disk: Some("it is full".to_owned()),
            clock_ahead_ms: Some(0),
            clock: None,
        };
        let expected = concat!(
            r#"{"id":"dn18","addr":"127.0.0.1:26000","zone":"default","state":"WORD""#,
            r#","role":"storage","self":true,"bytes":3,"capacity":5000000000,"cap":7"#,
            r#","drain":"waits","disk":"it is full","clock_ahead_ms":0}"#,
        )
        .replace("WORD", word);
        check(&peer, &expected);
    }
}

#[test]
fn a_peer_that_is_distrusted() {
    let json = concat!(
        r#"{"id":"dn18","addr":"a:1","zone":"z","state":"alive","self":false,"bytes":0"#,
        r#","capacity":0,"distrusted":"it lies"}"#,
    );
    check(&serde_json::from_str::<PeerView>(json).unwrap(), json);
}

#[test]
fn a_peer_whose_clock_is_wrong() {
    let json = concat!(
        r#"{"id":"dn18","addr":"a:1","zone":"z","state":"alive","self":false,"bytes":0"#,
        r#","capacity":0,"clock_ahead_ms":-46800000,"clock":"it is 13 h behind"}"#,
    );
    check(&serde_json::from_str::<PeerView>(json).unwrap(), json);
}

#[test]
fn proofs() {
    let unasked = ProofView {
        id: "dn18".to_owned(),
        state: ProofState::Unasked,
        asked: 0,
        proved: 0,
        last_ms: None,
        lacks: Vec::new(),
        since_ms: None,
    };
    check(&unasked, r#"{"id":"dn18","state":"unasked","asked":0,"proved":0}"#);
    for (state, word) in [
        (ProofState::Proved, "proved"),
        (ProofState::Behind, "behind"),
        (ProofState::Suspect, "suspect"),
        (ProofState::Distrusted, "distrusted"),
    ] {
        let proof = ProofView {
            state,
            asked: 200,
            proved: 199,
            last_ms: Some(MODIFIED_MS),
            lacks: vec!["08d3".to_owned()],
            since_ms: Some(MODIFIED_MS),
            ..unasked.clone()
        };
        let expected = concat!(
            r#"{"id":"dn18","state":"WORD","asked":200,"proved":199"#,
            r#","last":"2026-11-25T16:47:09Z","lacks":["08d3"],"since":"2026-11-25T16:47:09Z"}"#,
        );
        check(&proof, &expected.replace("WORD", word));
    }
}

#[test]
fn a_log() {
    for (state, word, current) in [
        (VersionState::Current, "current", true),
        (VersionState::Conflict, "conflict", false),
        (VersionState::Old, "old", false),
    ] {
        let expected = concat!(
            r#"{"version":"e132","type":"file","modified":"2026-11-25T16:47:09Z""#,
            r#","written":"2026-11-25T16:48:09Z"REPLACED,"bytes":7,"digest":"97c1""#,
            r#","current":CURRENT,"state":"WORD","writer":"f5f0"}"#,
        )
        .replace("REPLACED", if word == "old" { REPLACED } else { "" })
        .replace("CURRENT", &current.to_string())
        .replace("WORD", word);
        check(&logged(state, Some(ListedKind::File)), &expected);
    }
    check(
        &logged(VersionState::Deleted, None),
        concat!(
            r#"{"version":"e132","modified":"2026-11-25T16:47:09Z""#,
            r#","written":"2026-11-25T16:48:09Z","bytes":7,"current":false"#,
            r#","state":"deleted","writer":"f5f0"}"#,
        ),
    );
}

#[test]
fn what_a_directory_was_and_holds() {
    let versions = vec![logged(VersionState::Old, Some(ListedKind::File))];
    let names = vec![NameHistory { path: "docs/plan.txt".to_owned(), versions }];
    let expected = concat!(
        r#"{"names":[{"path":"docs/plan.txt","versions":[{"version":"e132","type":"file""#,
        r#","modified":"2026-11-25T16:47:09Z","written":"2026-11-25T16:48:09Z"REPLACED"#,
        r#","bytes":7,"digest":"97c1","current":false,"state":"old","writer":"f5f0"}]}]"#,
        r#","next":"0.08d3"}"#,
    );
    let page = HistoryPage { names, next: Some("0.08d3".to_owned()) };
    check(&page, &expected.replace("REPLACED", REPLACED));
    check(&HistoryPage::default(), r#"{"names":[]}"#);
    let dirs = vec![DirUsage { path: "docs".to_owned(), files: 3, bytes: 1 << 40, conflicts: 1 }];
    check(
        &UsagePage { dirs, next: Some("docs/".to_owned()), guarded: true },
        concat!(
            r#"{"dirs":[{"path":"docs","files":3,"bytes":1099511627776,"conflicts":1}]"#,
            r#","next":"docs/","guarded":true}"#,
        ),
    );
    check(
        &OfPath::new(&path(), Purged { versions: 2, bytes: 14 }),
        r#"{"path":"docs/plan.txt","versions":2,"bytes":14}"#,
    );
}

#[test]
fn conflicts() {
    let versions = vec![logged(VersionState::Current, Some(ListedKind::Dir))];
    let conflict = Conflict { path: "docs".to_owned(), versions };
    let mut list = ConflictPage { conflicts: vec![conflict], next: Some("docs".to_owned()) };
    check(
        &list,
        concat!(
            r#"{"conflicts":[{"path":"docs","versions":[{"version":"e132","type":"dir""#,
            r#","modified":"2026-11-25T16:47:09Z","written":"2026-11-25T16:48:09Z""#,
            r#","bytes":7,"digest":"97c1""#,
            r#","current":true,"state":"current","writer":"f5f0"}]}],"next":"docs"}"#,
        ),
    );
    list.conflicts.clear();
    list.next = None;
    check(&list, r#"{"conflicts":[]}"#);
}

#[test]
fn files_that_cannot_be_read() {
    for (fate, word) in [(Fate::Lost, "lost"), (Fate::OutOfReach, "out-of-reach")] {
        let unreadable = Unreadable {
            path: "lost.jpg".to_owned(),
            version: logged(VersionState::Old, Some(ListedKind::File)),
            fate,
        };
        let list =
            UnreadablePage { unreadable: vec![unreadable], next: Some("lost.jpg".to_owned()) };
        let expected = concat!(
            r#"{"unreadable":[{"path":"lost.jpg","fate":"WORD","version":"e132","type":"file""#,
            r#","modified":"2026-11-25T16:47:09Z","written":"2026-11-25T16:48:09Z"REPLACED"#,
            r#","bytes":7,"digest":"97c1","current":false,"state":"old","writer":"f5f0"}]"#,
            r#","next":"lost.jpg"}"#,
        )
        .replace("REPLACED", REPLACED)
        .replace("WORD", word);
        check(&list, &expected);
    }
}

#[test]
fn what_came_of_going_on_by_hand() {
    check(
        &RecoveryOutcome::Decided { epoch: 12, partitions: 144 },
        r#"{"state":"decided","epoch":12,"partitions":144}"#,
    );
    check(
        &RecoveryOutcome::Waits { nodes: vec!["072f".to_owned()] },
        r#"{"state":"waits","nodes":["072f"]}"#,
    );
    check(&RecoveryOutcome::Waits { nodes: Vec::new() }, r#"{"state":"waits"}"#);
}

#[test]
fn members_that_are_taken_out() {
    let departure = || Departure { id: "dn18".to_owned(), copies: 2, copies_wanted: 3 };
    check(
        &MemberView::new(departure(), PeerState::Draining),
        r#"{"id":"dn18","state":"draining","copies":2,"copies_wanted":3}"#,
    );
    check(
        &MemberView::new(departure(), PeerState::Left),
        r#"{"id":"dn18","state":"left","copies":2,"copies_wanted":3}"#,
    );
}

#[test]
fn a_repair() {
    let idle = RepairView {
        state: RepairState::Idle,
        missing: 0,
        lost: 0,
        away: 0,
        looked_through: true,
        bytes_per_second: 0,
        bytes_left: None,
        time_left: None,
    };
    let idle_is = concat!(
        r#"{"state":"idle","missing":0,"lost":0,"away":0,"looked_through":true"#,
        r#","bytes_per_second":0}"#,
    );
    check(&idle, idle_is);
    let paused = RepairView { state: RepairState::Paused, ..idle };
    check(&paused, &idle_is.replace("idle", "paused"));
    let running = RepairView {
        state: RepairState::Running,
        missing: 812,
        bytes_left: Some(850_813_747),
        time_left: Some(Duration::from_millis(28_900)),
        ..idle
    };
    check(
        &running,
        concat!(
            r#"{"state":"running","missing":812,"lost":0,"away":0,"looked_through":true"#,
            r#","bytes_per_second":0,"bytes_left":850813747,"seconds_left":28}"#,
        ),
    );
}

#[test]
fn a_scrub() {
    let running = ScrubView {
        state: ScrubState::Running,
        permille: 418,
        bytes_verified: 12_583_920,
        bytes_total: 30_020_069,
        bad: 1,
        unread: 2,
        sums_mended: 3,
        rows_damaged: 4,
        bytes_per_second: 5,
        began_ms: Some(MODIFIED_MS),
        last_complete_ms: None,
        next_ms: None,
    };
    check(
        &running,
        concat!(
            r#"{"state":"running","percent":41.8,"bytes_verified":12583920"#,
            r#","bytes_total":30020069,"bad":1,"unread":2,"sums_mended":3,"rows_damaged":4"#,
            r#","bytes_per_second":5,"began":"2026-11-25T16:47:09Z"}"#,
        ),
    );
    let ended = ScrubView {
        permille: 1000,
        began_ms: None,
        last_complete_ms: Some(MODIFIED_MS),
        next_ms: Some(u64::MAX),
        ..running
    };
    for (state, word) in [(ScrubState::Idle, "idle"), (ScrubState::Paused, "paused")] {
        let expected = concat!(
            r#"{"state":"WORD","percent":100.0,"bytes_verified":12583920,"bytes_total":30020069"#,
            r#","bad":1,"unread":2,"sums_mended":3,"rows_damaged":4,"bytes_per_second":5"#,
            r#","last_complete":"2026-11-25T16:47:09Z","next":"9999-12-31T23:59:59Z"}"#,
        )
        .replace("WORD", word);
        check(&ScrubView { state, ..ended }, &expected);
    }
}
