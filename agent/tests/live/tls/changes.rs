//! Libraries that are replaced while they are in use, and such as only one process can see.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{Asked, assert_all_seen};
use crate::lab::{Lab, Session, kind};
use crate::watch::{Folder, Watcher, capture};

/// Long enough to find a library that has just been mapped, and to attach to it.
const MOMENT: Duration = Duration::from_secs(3);

const COUNT: usize = 10;

/// The file of the TLS library that a process has mapped.
fn mapped(pid: u32) -> PathBuf {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let mut paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let path = paths.find(|path| path.contains("/libssl"));
    path.expect("a TLS library").into()
}

/// Puts a new copy of a library where another may be in use.
fn replace(library: &Path, folder: &Folder) {
    let new = folder.file("new");
    fs::copy(library, &new).expect("a copy");
    let name = library.file_name().expect("a name");
    fs::rename(&new, folder.file(&name.to_string_lossy())).expect("a folder");
}

/// A client, connected, that finds its library in a folder.
fn with_library(folder: &Path, port: &str) -> Session {
    let path = format!("LD_LIBRARY_PATH={}", folder.display());
    let client = ["redis-cli", "--tls", "--insecure", "-p", port];
    let mut session = Session::start("env", &[&[path.as_str()], &client[..]].concat());
    assert_eq!(session.ask("PING"), "PONG");
    let used = mapped(session.pid());
    assert!(used.starts_with(folder), "{}", used.display());
    session
}

/// The same in a mount namespace of its own, where the library is at a place that is empty outside.
fn in_namespace(library: &Path, port: &str) -> Session {
    let script = "mount -t tmpfs none /mnt && cp \"$1\" /mnt && \
                  LD_LIBRARY_PATH=/mnt exec redis-cli --tls --insecure -p \"$2\"";
    let path = library.to_str().expect("UTF-8");
    let arguments = ["--mount", "sh", "-c", script, "sh", path, port];
    let mut session = Session::start("unshare", &arguments);
    assert_eq!(session.ask("PING"), "PONG");
    assert!(mapped(session.pid()).starts_with("/mnt"));
    session
}

#[test]
fn libraries_that_are_replaced_or_hidden_are_found() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/redis"]) else {
        return;
    };
    let Some(port) = lab.tls("redis") else { return };
    let mut system = Session::start("redis-cli", &["--tls", "--insecure", "-p", port]);
    assert_eq!(system.ask("PING"), "PONG");
    let library = mapped(system.pid());
    system.end();
    let folder = Folder::new("libraries");
    replace(&library, &folder);
    let place = folder.file("");
    let replaced_before = with_library(&place, port);
    replace(&library, &folder);
    let hidden_before = in_namespace(&library, port);
    let watcher = Watcher::with_tls(&["--port", port]);
    let replaced_since = with_library(&place, port);
    replace(&library, &folder);
    let newest = with_library(&place, port);
    let hidden_since = in_namespace(&library, port);
    thread::sleep(MOMENT);
    let sessions = [
        ("replaced-before", replaced_before),
        ("hidden-before", hidden_before),
        ("replaced-since", replaced_since),
        ("newest", newest),
        ("hidden-since", hidden_since),
    ];
    let keys = sessions.map(|(key, mut session)| {
        // Where a connection is joined, the first exchange need not be whole.
        assert_eq!(session.ask("PING"), "PONG");
        for number in 0..COUNT {
            assert_eq!(session.ask(&format!("SET {key} {number}")), "OK");
        }
        session.end();
        (kind("redis", "SET", key, "OK"), COUNT)
    });
    let records = watcher.end().records;
    let asked = Asked::new(port, "redis-cli", "redis-server", &keys);
    assert_all_seen(&records, &[asked]);
}
