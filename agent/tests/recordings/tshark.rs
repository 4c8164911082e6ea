//! A recording through the eyes of another program. Skipped, aloud, where it is not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use wirespan::api::Direction::ToClient;
use wirespan_engine::Process;

use crate::story::{Call, Story, whole};
use crate::{objects, recorded, replayed};

/// HTTP over both versions of IP, and Redis with lost bytes: some within a value, and more than an
/// IP packet can hold.
fn story() -> Story {
    let mut http = whole(false, 0, true, &[(0, 200), (2, 3)]);
    http.opening.process = Some(Process::new(4711, b"curl"));
    let ipv6 = whole(true, 0, true, &[(1, 90)]);
    let mut redis = whole(false, 1, false, &[(7, 250), (8, 2)]);
    let lose = |call: &mut Call| {
        if let Call::Chunk(ToClient, at @ 50, bytes) = call {
            *call = Call::Lost(ToClient, *at, bytes.len() as u64);
        }
    };
    redis.calls.iter_mut().for_each(lose);
    let large = [(true, 1), (false, 0)].map(|(ipv6, host)| {
        let mut large = whole(ipv6, host, false, &[]);
        large.calls = vec![
            Call::Chunk(ToClient, 0, b"$300000\r\n".to_vec()),
            Call::Lost(ToClient, 9, 300_002),
            Call::Chunk(ToClient, 300_011, b"+OK\r\n".to_vec()),
        ];
        large
    });
    Story {
        connections: [vec![http, ipv6, redis], large.to_vec()].concat(),
        steps: (0..200).map(|n| (1_000_001, n / 3)).collect(),
    }
}

/// Writes the recording to a file of its own: tests run at the same time.
fn file(recording: &[u8]) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("recording-{}.pcapng", COUNT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, recording).expect("a recording is written");
    path
}

/// The lines that tshark prints; `None` where there is no tshark.
fn tshark(recording: &Path, arguments: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("tshark")
        .args([
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
            "-r",
        ])
        .arg(recording)
        .args(["-d", "tcp.port==6379,resp"])
        .args(arguments)
        .output();
    let Ok(output) = output else {
        println!("skipped: there is no tshark");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    Some(lines.lines().map(str::to_owned).collect())
}

/// The values of `fields` in the packets that `filter` lets pass.
fn fields(recording: &Path, filter: &str, fields: &[&str]) -> Option<Vec<String>> {
    let mut arguments = vec!["-Y", filter, "-T", "fields", "-E", "separator= "];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    tshark(recording, &arguments)
}

#[test]
fn another_analyser_finds_nothing_wrong_and_the_same_requests() {
    let story = story();
    let recording = recorded(&story);
    let records = objects(&replayed(recording.clone(), 1));
    let path = file(&recording);
    let faults = "_ws.malformed || _ws.expert.severity >= 0x00600000 || tcp.checksum.status == 0 \
                  || ip.checksum.status == 0";
    let shown = ["frame.number", "_ws.expert.message", "tcp.checksum.status"];
    let Some(faults) = fields(&path, faults, &shown) else {
        return;
    };
    assert_eq!(faults, Vec::<String>::new());

    let http = |record: &&Value| record["protocol"] == "http";
    let text = |record: &Value, key: &str| record[key].as_str().expect("text").to_owned();
    let mut expected: Vec<_> = (records.iter().filter(http))
        .map(|record| text(record, "operation") + " " + &text(record, "target"))
        .collect();
    let request = ["http.request.method", "http.request.uri"];
    let lines = fields(&path, "http.request", &request).expect("tshark is there");
    // Several requests in one segment are on one line: methods, then targets.
    let mut found: Vec<_> = lines.iter().flat_map(|line| pairs(line)).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 1 + 3 + 2);
}

/// `GET,GET /a,/b` to `GET /a` and `GET /b`.
fn pairs(line: &str) -> Vec<String> {
    let (methods, targets) = line.split_once(' ').expect("two fields");
    let pairs = methods.split(',').zip(targets.split(','));
    pairs
        .map(|(method, target)| format!("{method} {target}"))
        .collect()
}

#[test]
fn another_analyser_follows_the_same_streams() {
    let story = story();
    let path = file_of(&story);
    let Some(lines) = tshark(&path, &["-q", "-z", "follow,tcp,raw,0"]) else {
        return;
    };
    // The client's bytes from the margin, the server's behind a tab.
    let hex = |line: &&String| line.trim().bytes().all(|digit| digit.is_ascii_hexdigit());
    let (mut there, mut back) = (String::new(), String::new());
    for line in lines.iter().filter(hex) {
        match line.strip_prefix('\t') {
            Some(line) => back.push_str(line),
            None => there.push_str(line),
        }
    }
    let sent = |wanted| {
        let calls = story.connections[0].calls.iter();
        let bytes = calls.filter_map(|call| match call {
            Call::Chunk(dir, _, bytes) if *dir == wanted => Some(bytes),
            _ => None,
        });
        let digits = bytes.flatten().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    };
    assert_eq!(there, sent(ToClient.reverse()));
    assert_eq!(back, sent(ToClient));

    // The last segment acknowledges all of it: relative numbers, SYN and FIN count one each.
    let lines = fields(&path, "tcp.stream == 0", &["tcp.seq", "tcp.ack"]);
    let last = lines.expect("tshark is there").pop();
    let numbers = format!("{} {}", there.len() / 2 + 2, back.len() / 2 + 2);
    assert_eq!(last, Some(numbers));
}

#[test]
fn another_analyser_shows_sides_processes_and_times() {
    let path = file_of(&story());
    let shown = ["frame.interface_name", "frame.time_epoch", "frame.comment"];
    let Some(lines) = fields(&path, "frame.number == 1", &shown) else {
        return;
    };
    assert_eq!(
        lines,
        ["wirespan:client 1700000000.124456790 \
          wirespan open start=beginning roles=known process=4711 name=curl"]
    );
}

fn file_of(story: &Story) -> PathBuf {
    file(&recorded(story))
}
